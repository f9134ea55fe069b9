"""A campaign's whole life in a real Chromium: made, filled, taught, voted on, paused, closed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from plumbline.collect import enrolment, training, versions
from plumbline.collect.models import Campaign, Comparison, Completion, Flag, Prompt, PromptSet
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]
GUIDELINES = """Prefer the answer that a careful friend would give.

- **Right** comes before *nice*.
- Short is better when nothing is lost.

When it is close, say *tie*."""


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture
def stored(project):
    """Eight prompts with two stored answers each."""
    source = PromptSet.objects.create(project=project, name="Household questions")
    for n in range(8):
        messages = [{"role": "user", "content": f"How do I hang shelf number {n} straight?"}]
        prompt = Prompt.objects.create(set=source, messages=messages, digest=f"{n}")
        for text in ("Use a plumb line: it hangs straight down.", "Just look at it for a while."):
            Completion.objects.create(prompt=prompt, origin="stored", text=text)
    return source


@pytest.fixture
def busy(project, alice, bob, carol):
    """A campaign with all there is to show."""
    campaign = open_campaign(project, comparisons=30, overlap=2)
    Completion.objects.update(text="A plumb line hangs straight down because of gravity. " * 4)
    versions.change(campaign, {"guidelines": GUIDELINES, "hourly_rate": Decimal(20)}, alice)
    softer = GUIDELINES.replace("careful friend", "patient, careful teacher")
    example = {"prompt": "Why is it straight?", "better": "Gravity.", "worse": "Magic.", "why": ""}
    values = {"guidelines": softer, "overlap": 3, "examples": [example], "reasons": ["Too long"]}
    versions.change(campaign, values, alice)
    crowd.busy(campaign, [bob, carol], overlap=2, seed=3, weeks=1)
    draw = campaign.comparisons.order_by("pk")
    now = timezone.now()
    stale = draw.filter(pk__gt=draw[25].pk)  # expired with two votes of three
    Comparison.objects.filter(pk__in=stale).update(expires_at=now - timedelta(days=1))
    for n, comparison in enumerate(draw[:12]):
        vote = comparison.ballots.first()
        vote.cast_at = now - timedelta(hours=n * 3 % 40, minutes=n)
        vote.save()
    made = open_campaign(project, comparisons=1).comparisons.get()
    Comparison.objects.filter(pk=made.pk).update(campaign=campaign)
    made.refresh_from_db()
    ballot = crowd.vote(bob, made, outcome="flagged", seat=None, reason="Harmful")
    Flag.objects.create(ballot=ballot, reason="Harmful", words="It says how to hurt people.")
    Campaign.objects.exclude(pk=campaign.pk).delete()
    for user in (bob, carol):
        enrolment.enrol(campaign, user)
    training.teach(draw[29], {"outcome": "ranked", "ranking": [[0], [1]]}, "It **answers**.")
    return campaign


def addresses(campaign, researcher, annotator) -> list[tuple]:
    """Every page of a campaign and who looks at it."""
    here = f"/p/alpha/campaigns/{campaign.pk}/"
    one = campaign.comparisons.filter(kind="ordinary").order_by("pk")[0]
    taught = campaign.comparisons.get(kind="training")
    pages = ["manage", "edit", "versions", "fill", "people", "comparisons", "flags"]
    shown = ["disputed", "expired"]
    return [
        (researcher, "/p/alpha/campaigns/"),
        (researcher, "/p/alpha/campaigns/new/"),
        *((researcher, f"{here}{name}/") for name in pages),
        *((researcher, f"{here}comparisons/?show={name}") for name in shown),
        (researcher, f"{here}comparisons/{one.pk}/"),
        (researcher, f"{here}comparisons/{taught.pk}/"),
        (annotator, f"{here}training/"),
        (annotator, here),
    ]


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_every_campaign_page_fits_every_screen(browse, alice, bob, busy, stored, width, dark):
    pages = {user: browse(user, width=width, dark=dark) for user in (alice, bob)}
    for user, path in addresses(busy, alice, bob):
        page = pages[user]
        page.goto(path)
        page.locator("h1").wait_for()
        assert fits(page), path
        unnamed = page.locator("input:visible, select:visible, textarea:visible").evaluate_all(
            "all => all.filter((one) => !one.labels.length).map((one) => one.name)"
        )
        assert unnamed == [], path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_axe_finds_nothing_serious_on_campaign_pages(
    browse, alice, bob, busy, stored, faults, width, dark
):
    pages = {user: browse(user, width=width, dark=dark) for user in (alice, bob)}
    found = {}
    for user, path in addresses(busy, alice, bob):
        page = pages[user]
        page.goto(path)
        page.evaluate("document.querySelectorAll('main details').forEach((one) => one.open = true)")
        found[path] = faults(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def make_it(page, browse) -> Campaign:
    """From the empty list, by way of a mistake, to a campaign with comparisons."""
    page.goto("/p/alpha/campaigns/")
    page.get_by_role("link", name="Make the first one").click()
    page.get_by_label("Name", exact=True).fill("Straight answers")
    page.get_by_label("Guidelines").fill(GUIDELINES)
    page.get_by_role("button", name="Preview the guidelines").click()
    page.locator("#preview strong", has_text="Right").wait_for()
    page.get_by_label("People per comparison").fill("0")
    page.get_by_role("button", name="Make the campaign").click()
    page.get_by_role("alert").get_by_text("must be between 1 and 100").wait_for()
    assert "422" in browse.troubles.pop(), "what the browser notes of a refusal"
    page.get_by_label("People per comparison").fill("1")
    page.get_by_role("button", name="Make the campaign").click()

    page.get_by_role("heading", name="Add comparisons").wait_for()
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("8 comparisons are added.").wait_for()
    return Campaign.objects.get()


def teach_one(page, campaign):
    """Puts the first comparison in the training; the answer that is the better one."""
    page.get_by_role("link", name="Comparisons", exact=True).click()
    page.locator("tbody a").first.click()
    better = (
        campaign.comparisons.order_by("pk").first().slots.get(completion__text__startswith="Use")
    )
    for slot, letter in enumerate("AB"):
        place = "1" if slot == better.slot else "2"
        page.get_by_label(f"Place of {letter}").fill(place)
    page.get_by_label("Explanation").fill("A plumb line **measures**; looking does not.")
    page.get_by_role("button", name="Put in the training").click()
    page.get_by_text("It is in the training now").wait_for()
    return better


def join_by_link(page, browse):
    """Somebody new, on a phone, by an invitation made here."""
    page.get_by_role("link", name="People", exact=True).click()
    page.get_by_role("button", name="Make a link").click()
    link = page.locator("#invitation-link").inner_text()
    newcomer = browse(None, width=390)
    newcomer.goto(link)
    newcomer.get_by_label("User name").fill("erin")
    newcomer.get_by_label("Password", exact=True).fill("plumb-line-9")
    newcomer.get_by_label("Password confirmation").fill("plumb-line-9")
    newcomer.get_by_role("button", name="Join").click()
    newcomer.get_by_role("button", name="Start comparing").click()
    newcomer.wait_for_url("**/ballots/**")
    return newcomer


def pass_the_training(newcomer, campaign, better) -> None:
    first = newcomer.url
    ballot = campaign.comparisons.get(kind="training").ballots.get()
    best = "AB"[ballot.shown.index(better.slot)]
    newcomer.locator("#ballot").wait_for()
    newcomer.keyboard.press(best.lower())
    newcomer.keyboard.press("Enter")
    newcomer.locator("strong", has_text="measures").wait_for()
    assert newcomer.url == first
    assert fits(newcomer)
    newcomer.goto(f"/p/alpha/campaigns/{campaign.pk}/training/")
    newcomer.get_by_role("heading", name="You have passed").wait_for()
    newcomer.get_by_role("button", name="Start comparing").click()
    newcomer.wait_for_url("**/ballots/**")


def steer_and_close(page) -> None:
    """Pause, go on, change a setting, look at what changed, close."""
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused. Nobody gets another comparison").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("People per comparison").fill("3")
    page.get_by_role("button", name="Save a new version").click()
    page.get_by_text("Saved as version 4.").wait_for()
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("heading", name="Version 3 to 4").wait_for()
    page.locator("ins", has_text="3").wait_for()
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("button", name="Close").click()
    page.get_by_text("Closed. It takes no more votes").wait_for()


def test_the_whole_life_of_a_campaign(browse, project, alice, bob, stored):
    page = browse(alice)
    campaign = make_it(page, browse)
    better = teach_one(page, campaign)
    newcomer = join_by_link(page, browse)
    pass_the_training(newcomer, campaign, better)
    steer_and_close(page)
    campaign.refresh_from_db()
    assert campaign.settings_version == 5
    assert campaign.versions.filter(author=alice).count() == 5
