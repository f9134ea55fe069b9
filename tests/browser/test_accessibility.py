"""Nothing serious for axe-core (WCAG 2.2 AA) on any page, wide and narrow, light and dark."""

from __future__ import annotations

import pytest

from plumbline.collect.models import Ballot
from tests.browser.test_labelling import begin, say
from tests.browser.test_reading_browser import RICH, rich
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]


@pytest.mark.parametrize(
    ("answers", "asks"),
    [
        (2, ["compare"]),
        (2, ["compare", "mark", "rate", "correct", "critique", "spans"]),
        (4, ["compare", "mark"]),
        (8, ["compare"]),
    ],
)
def test_axe_finds_nothing_serious_where_people_compare(
    site, browse, project, bob, faults, answers, asks
):
    criteria = [{"name": "helpful", "low": "no", "high": "yes"}] if "rate" in asks else []
    settings = {"asks": asks, "criteria": criteria, "reasons": ["Clearer"], "guidelines": "Be."}
    campaign = rich(project, *[f"{RICH} {n}" for n in range(answers)], **settings)
    for width, dark in SCREENS:
        page = browse(bob, width=width, dark=dark)
        begin(page, campaign)
        assert faults(page) == [], (width, dark)
        for key in "1?" if answers > 2 else "a?":
            page.keyboard.press(key)
        assert faults(page) == [], (width, dark, "with an answer and the keys open")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.context.close()


def test_axe_finds_nothing_serious_around_it(site, browse, project, bob, faults):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    say(page, "b", "Enter")
    for address in ("/", "/p/alpha/", f"/p/alpha/campaigns/{campaign.pk}/", "/p/alpha/my-keys/"):
        page.goto(address)
        assert faults(page) == [], address
    answered = Ballot.objects.exclude(outcome="").get()
    page.goto(f"/p/alpha/ballots/{answered.pk}/")
    assert faults(page) == []


def test_axe_finds_nothing_serious_for_researchers(site, browse, project, dana, faults):
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"), steps=5)
    campaign = open_campaign(project, comparisons=2)
    here, lab_at = f"/p/alpha/campaigns/{campaign.pk}/", "/p/alpha/lab/"
    experiment = f"{lab_at}experiments/{made.experiment_id}/"
    addresses = [
        *("/p/alpha/", "/p/alpha/members/", "/p/alpha/keys/", here, f"{here}quality/"),
        *(f"{lab_at}{page}/" for page in ("experiments", "experiments/new", "policies", "jobs")),
        *(experiment, f"{experiment}rounds/{made.number}/"),
    ]
    found = {}
    for dark in (False, True):
        page = browse(dana, dark=dark)
        for address in addresses:
            answer = page.goto(address)
            assert answer.status == 200, address
            if wrong := faults(page):
                found[address, dark] = wrong
    assert not found
