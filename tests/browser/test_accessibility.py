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
ACROSS = [(1280, False), (390, True)]  # both widths and both themes, where there are many pages


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
    answered = Ballot.objects.exclude(outcome="").get()
    here = f"/p/alpha/campaigns/{campaign.pk}/"
    own = ("/", "/p/alpha/", here, f"{here}answers/", "/p/alpha/my-keys/", "/p/alpha/lab/my-work/")
    account = ("/accounts/password/", "/accounts/logout/", "/accounts/data/")
    account += ("/accounts/data/forget/",)
    for width, dark in ACROSS:
        page = browse(bob, width=width, dark=dark)
        for address in (*own, *account, f"/p/alpha/ballots/{answered.pk}/"):
            assert page.goto(address).status == 200, address
            assert faults(page) == [], (address, width, dark)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        page.context.close()


def test_axe_finds_nothing_serious_on_a_strangers_pages(site, browse, project, bob, faults):
    for width, dark in ACROSS:
        page = browse(None, width=width, dark=dark)
        page.goto("/accounts/login/")
        assert faults(page) == []
        page.get_by_label("User name").fill("bob")
        page.get_by_label("Password").fill("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector(".errorlist")
        assert faults(page) == [], "with what was wrong"
        page = browse(bob, width=width, dark=dark)
        for address in ("/p/alpha/members/", "/p/alpha/nowhere/"):
            page.goto(address)
            assert faults(page) == [], address
    browse.troubles[:] = [one for one in browse.troubles if "403" not in one and "404" not in one]


def test_axe_finds_nothing_serious_in_what_opens_on_the_page(site, browse, project, bob, faults):
    example = {"prompt": "How long?", "better": "A week.", "worse": "It depends.", "why": "Plain."}
    campaign = open_campaign(project, comparisons=3, guidelines="Be **kind**.", examples=[example])
    for width, dark in ACROSS:
        page = browse(bob, width=width, dark=dark)
        begin(page, campaign)
        for key in "gsfn?":
            page.keyboard.press(key)
            assert faults(page) == [], (key, width, dark)
            page.keyboard.press("Escape")
        page.locator("[data-view] summary").click()
        assert faults(page) == [], ("view", width, dark)
        page.context.close()


def test_whatever_has_the_focus_shows_it(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2, guidelines="Be kind.", reasons=["Clearer"])
    page = browse(bob)
    begin(page, campaign)
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        name, shown = page.evaluate(
            """() => {
                const one = document.activeElement;
                const ring = (e) => e && getComputedStyle(e).outlineStyle !== "none";
                return [one.name || one.textContent.trim().slice(0, 30), one === document.body
                    || ring(one) || ring(one.nextElementSibling)];
            }"""
        )
        assert shown, name
        seen.add(name)
    assert {"choice", "reasons", "Note"} <= seen, "and the keyboard reaches it"


def test_a_screen_reader_hears_what_was_saved_and_that_the_next_one_is_there(
    site, browse, project, bob
):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    say(page, "b", "Enter")
    live = page.locator("#live")
    assert live.get_attribute("aria-live") == "polite"
    assert live.inner_text() == "Saved: B better than A Next comparison."
    assert page.evaluate("document.activeElement.id") == "ballot", "and reads on from its top"


def test_nothing_moves_for_who_asked_for_less_motion(site, browse, project, bob):
    page = browse(bob)
    begin(page, open_campaign(project, comparisons=1))
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((one) => {
            const style = getComputedStyle(one);
            return style.animationName !== "none" || parseFloat(style.transitionDuration) > 0;
        }).length"""
    )
    assert moving == 0


def test_axe_finds_nothing_serious_for_researchers(site, browse, project, dana, faults):
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"), steps=5)
    campaign = open_campaign(project, comparisons=2)
    here, lab_at = f"/p/alpha/campaigns/{campaign.pk}/", "/p/alpha/lab/"
    experiment = f"{lab_at}experiments/{made.experiment_id}/"
    addresses = [
        *("/p/alpha/", "/p/alpha/members/", "/p/alpha/keys/", here, f"{here}quality/"),
        *("/p/alpha/members/forget/", "/p/alpha/health/"),
        *(f"{lab_at}{page}/" for page in ("experiments", "experiments/new", "policies", "jobs")),
        *(experiment, f"{experiment}rounds/{made.number}/", f"{lab_at}blends/new/"),
        *(f"{lab_at}{page}/" for page in ("rounds", "compare", "reward-models")),
        f"{lab_at}rounds/?baseline={made.pk}&columns=win&columns=set:knobs.beta",
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
