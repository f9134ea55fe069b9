"""Content at its extremes: long, wide, empty, equal, many, from right to left; and the panels."""

from __future__ import annotations

import pytest

from tests.browser.test_labelling import begin, say
from tests.browser.test_reading_browser import ARABIC, rich
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FITS = "document.documentElement.scrollWidth <= innerWidth"
CODE = (
    "```python\n" + "result = call(" + ", ".join(f"argument_{n}={n}" for n in range(40)) + ")\n```"
)
TABLE = "|" + "|".join(f" Heading {n} " for n in range(12)) + "|\n|" + "---|" * 12
TABLE += "\n|" + "|".join(" some value " for _ in range(12)) + "|"
WIDE = f"{CODE}\n\n{TABLE}\n\nhttps://example.com/" + "a" * 300
LONG = "\n\n".join(
    f"Paragraph {n}. " + "One sentence follows another here. " * 9 for n in range(60)
)
EXAMPLES = [{"prompt": "How long?", "better": "A week.", "worse": "It depends.", "why": "Plain."}]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_too_wide_or_too_long_for_its_place(site, browse, project, bob, width):
    campaign = rich(project, WIDE, LONG[:20_000], ask="Please. " * 400)
    page = browse(bob, width=width)
    begin(page, campaign)
    assert page.evaluate(FITS)
    inside = page.evaluate(
        """() => [...document.querySelectorAll(".pane")].every((pane) => {
            const edge = pane.getBoundingClientRect().right + 1;
            return [...pane.querySelectorAll(".prose > *")].every(
                (part) => part.getBoundingClientRect().right <= edge);
        })"""
    )
    assert inside, "code and tables stay in their pane"
    asked = page.locator(".turns")
    assert asked.bounding_box()["height"] < 844 * 0.4, "a long prompt folds"
    page.get_by_role("button", name="Whole prompt").click()
    assert asked.evaluate("(one) => one.scrollHeight - one.clientHeight") < 2
    page.get_by_role("button", name="Fold the prompt").click()
    page.mouse.wheel(0, 4000)
    verdict = page.locator(".verdict").bounding_box()
    assert verdict["y"] + verdict["height"] <= (844 if width == 390 else 900) + 1
    say(page, "a", "Enter")


def test_a_conversation_starts_where_it_asks(site, browse, project, bob):
    campaign = rich(project, "Yes.", "No.")
    prompt = campaign.comparisons.order_by("-priority").first().prompt
    turns = [("user", "My wall leans. " * 20), ("assistant", "How far? " * 20)] * 3
    said = [{"role": role, "content": text} for role, text in turns]
    prompt.messages = [*said, {"role": "user", "content": "Two centimetres."}]
    prompt.save()
    page = browse(bob)
    begin(page, campaign)
    assert page.locator(".turn").count() == 7
    last, fold = page.locator(".asked").last.bounding_box(), page.locator(".turns").bounding_box()
    assert last["y"] + last["height"] <= fold["y"] + fold["height"] + 1, "the question is in sight"


def test_empty_and_equal_answers_are_told_as_such(site, browse, project, bob):
    page = browse(bob)
    begin(page, rich(project, "", "  \n"))
    assert page.get_by_text("This answer is empty.").count() == 2
    begin(page, rich(project, ARABIC, ARABIC))
    page.keyboard.press("d")
    page.get_by_text("The answers are the same, word for word.").wait_for()


def test_nine_answers_are_judged_on_a_phone(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2, answers=9)
    page = browse(bob, width=390, has_touch=True)
    begin(page, campaign)
    assert page.evaluate(FITS)
    page.locator("[data-pane=C] .ends label").first.tap()
    page.locator("[data-pane=H] .ends label").last.tap()
    assert page.locator("[data-ends]").inner_text() == "Best: C. Worst: H."
    page.get_by_role("button", name="Save").tap()
    page.wait_for_selector("[data-echo] .success")


def test_guidelines_and_examples_stay_open_beside_the_answers(site, browse, project, bob):
    campaign = open_campaign(
        project, comparisons=3, guidelines="Be **kind**.", examples=EXAMPLES, settings_version=4
    )
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("g")
    panel = page.get_by_role("complementary", name="Guidelines")
    for words in ("version 4", "How long?", "A week.", "It depends.", "Plain."):
        assert panel.get_by_text(words).is_visible(), words
    verdict, edge = page.locator(".submit").bounding_box(), panel.bounding_box()["x"]
    assert verdict["x"] + verdict["width"] <= edge, "the answers and the verdict stand beside it"
    say(page, "a", "Enter")
    assert panel.is_visible(), "from one comparison to the next"
    page.keyboard.press("Escape")
    assert panel.is_hidden()


def test_answers_stand_one_under_the_other_when_asked_and_are_copied(site, browse, project, bob):
    page = browse(bob, permissions=["clipboard-read", "clipboard-write"])
    begin(page, rich(project, "First **text**.", "Second."))
    page.keyboard.press("o")
    a, b = [pane.bounding_box() for pane in page.locator(".pane").all()]
    assert a["y"] + a["height"] <= b["y"]
    first = page.locator(".pane .raw").first.text_content().strip()
    page.get_by_role("button", name="Copy answer A").click()
    assert page.evaluate("navigator.clipboard.readText()") == first


def test_ones_answers_are_listed_by_what_became_of_them(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=4)
    page = browse(bob)
    begin(page, campaign)
    say(page, "b", "Enter")
    say(page, "s", "3")
    say(page, "f", "1")
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/answers/")
    for state in ("All 4", "Answered 1", "Skipped 1", "Flagged 1", "Drafts 0", "Open 1"):
        assert page.get_by_role("link", name=state, exact=True).count() == 1, state
    page.get_by_role("link", name="Skipped 1").click()
    assert page.locator(".said-list li").count() == 1
    page.locator(".said-list a").click()
    page.get_by_role("heading", name="You skipped this: ").wait_for()


def test_one_leaves_a_campaign_after_a_second_look(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    page.get_by_text("Leave this campaign").click()
    page.get_by_role("button", name="Leave").click()
    page.get_by_text("You have left").wait_for()
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    assert page.get_by_role("heading", name="You have left this campaign.").count() == 1


def test_on_a_narrow_screen_the_tab_that_one_is_on_is_in_sight(site, browse, project, alice):
    campaign = open_campaign(project)
    page = browse(alice, width=390)
    for path, bar in (
        ("evolve/", ".places"),
        ("keys/", ".places"),
        (f"campaigns/{campaign.pk}/versions/", ".filters"),
    ):
        page.goto(f"/p/alpha/{path}")
        tab = page.locator(f"{bar} [aria-current]").bounding_box()
        assert tab["x"] >= 0
        assert tab["x"] + tab["width"] <= 390
        assert page.evaluate("window.scrollY") == 0
