"""Quality pages in a real Chromium: every width and theme, by keyboard, under the strict CSP."""

from __future__ import annotations

import random

import pytest

from plumbline.accounts.models import Membership, User
from plumbline.collect.models import Comparison, Completion
from plumbline.collect.quality import people, planting
from plumbline.policies.models import Deployment
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]
TEXT = "A plumb line hangs straight down because gravity pulls its bob along the vertical. " * 4


@pytest.fixture
def voted(project, bob, carol):
    """A campaign with all there is to show: five people, gold, repeats, one excluded."""
    campaign = open_campaign(project, comparisons=120, overlap=2)
    Completion.objects.update(text=TEXT)
    more = [User.objects.create_user(username=name) for name in ("erin", "frank", "grace")]
    for user in more:
        Membership.objects.create(project=project, user=user, role="annotator")
    everybody = [bob, carol, *more]
    crowd.busy(campaign, everybody, overlap=2, seed=2)
    draw = random.Random(4)
    for known in planting.plant(campaign, 14, draw):
        for user in everybody:
            wrong = user == more[0] or draw.random() < 0.1
            said = known.expected["ranking"]
            crowd.vote(user, known, [[0, 1]] if wrong and len(said) > 1 else said)
    votes = list(campaign.comparisons.filter(kind="ordinary").order_by("pk"))
    for comparison in votes[:30]:
        ballot = comparison.ballots.first()
        again = Comparison.objects.create(
            campaign=campaign, prompt=comparison.prompt, kind="repeat", repeats=comparison,
            only_for=ballot.annotator,
        )  # fmt: skip
        same = ballot.ranking if draw.random() < 0.85 else ballot.ranking[::-1]
        crowd.vote(ballot.annotator, again, same, shown=ballot.shown[::-1])
    people.exclude(campaign, more[2], "Answers without reading.")
    return campaign


def rounds_of(project, campaign, user):
    """Two rounds that took votes of the user up; the second one's policy serves."""
    experiment = lab.experiment(project, name="Warmer answers", rounds_wanted=3)
    for _ in range(2):
        made = lab.finished_round(experiment, steps=1)
        made.ballots.set(user.ballots.model.objects.filter(comparison__campaign=campaign)[:90])
    Deployment.objects.create(project=project, policy=made.policy_out)
    return made


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_every_quality_page_fits_every_screen(browse, project, alice, bob, voted):
    rounds_of(project, voted, bob)
    quality = f"/p/alpha/campaigns/{voted.pk}/quality/"
    erin = User.objects.get(username="erin")
    pages = (
        (alice, quality),
        (alice, f"{quality}people/{erin.pk}/"),
        (bob, "/p/alpha/lab/my-work/"),
    )
    for user, path in pages:
        for width, dark in SCREENS:
            page = browse(user, width=width, dark=dark)
            page.goto(path)
            page.locator("h1").wait_for()
            assert fits(page), path
            pictures = page.locator(".interval svg[role=img]")
            assert pictures.count() > 1
            assert all(
                pictures.evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
            )
            page.close()


def test_empty_pages_invite_on_every_screen(browse, project, alice, bob):
    campaign = open_campaign(project)
    for width, dark in SCREENS:
        page = browse(alice, width=width, dark=dark)
        page.goto(f"/p/alpha/campaigns/{campaign.pk}/quality/")
        page.get_by_role("heading", name="No votes yet").wait_for()
        assert fits(page)
        page = browse(bob, width=width, dark=dark)
        page.goto("/p/alpha/lab/my-work/")
        page.get_by_role("link", name="To the campaigns").wait_for()
        assert fits(page)


def test_a_person_is_paused_and_resumed_by_keyboard_alone(browse, alice, voted):
    erin = User.objects.get(username="erin")
    page = browse(alice)
    page.goto(f"/p/alpha/campaigns/{voted.pk}/quality/")
    page.get_by_role("link", name="erin").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="erin", level=1).wait_for()
    reason = page.locator("#pause-reason")
    reason.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("Let us talk first.")
    page.keyboard.press("Enter")
    page.get_by_text("Let us talk first.").wait_for()
    assert erin.enrolments.get().paused_at is not None
    page.get_by_role("button", name="Resume").focus()
    page.keyboard.press("Space")
    page.get_by_text("erin may go on.").wait_for()
    assert erin.enrolments.get().paused_at is None
