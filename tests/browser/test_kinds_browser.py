"""Each kind of question as a person answers it: by keys, by dragging, by touch, without scripts."""

from __future__ import annotations

import pytest

from plumbline.collect import screen
from plumbline.collect.models import Ballot
from tests.browser.test_labelling import begin, say
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CRITERIA = [{"name": "helpful", "low": "not at all", "high": "fully"}, {"name": "honest"}]


def echo(page) -> str:
    return page.locator("[data-echo]").inner_text()


def test_a_marked_pair_takes_one_click_or_two_keys(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3, asks=["compare", "mark"])
    page = browse(bob)
    begin(page, campaign)
    page.get_by_label("A slightly better, the best one is good").check(force=True)
    page.get_by_role("button", name="Save").click()
    page.locator("[data-echo]", has_text="A slightly better than B, and good").wait_for()
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    assert "how good the best one is" in page.locator("#live").inner_text()
    say(page, "l", "Enter")
    assert echo(page) == "Saved: B better than A, and bad"
    assert sorted(Ballot.objects.exclude(outcome="").values_list("mark", flat=True)) == [1, 3]


def test_a_ranking_by_keys_with_a_tie_and_moves(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2, answers=4)
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("Enter")
    assert "Give each answer a place" in page.locator("#live").inner_text()
    for key in ("3", "1", "4", "2"):
        page.keyboard.press(key)
    assert page.locator("#live").inner_text() == "B picked: C > A > D > B"
    for key in ("Alt+ArrowUp", "Alt+ArrowUp", "4", "0"):
        page.keyboard.press(key)
    say(page, "Enter")
    assert echo(page) == "Saved: C > B > A = D"
    vote = Ballot.objects.exclude(outcome="").get()
    places = [[vote.shown["ABCD".index(letter)] for letter in group] for group in ("C", "B", "AD")]
    assert vote.ranking == [sorted(group) for group in places]


def test_a_ranking_by_dragging_and_stacking(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2, answers=3)
    page = browse(bob)
    begin(page, campaign)

    def drag(letter: str, to, dx: float = 0.5) -> None:
        start = page.locator(f".answer-chip[data-letter={letter}]").bounding_box()
        end = to.bounding_box()
        page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
        page.mouse.down()
        page.mouse.move(end["x"] + end["width"] * dx, end["y"] + end["height"] / 2, steps=5)
        page.mouse.up()

    rail = page.locator("[data-rail]")
    drag("B", rail)
    drag("A", rail, 0.9)
    assert page.locator("[data-rail] li").all_inner_texts() == ["B", "A"]
    drag("A", page.locator("[data-rail] li").first, 0.05)
    assert page.locator("[data-rail] li").all_inner_texts() == ["A", "B"]
    drag("C", page.locator("[data-rail] li").nth(1))
    assert page.get_by_label("Place of answer C").input_value() == "2"
    say(page, "Enter")
    assert echo(page) == "Saved: A > B = C"


def test_a_ranking_by_numbers_without_javascript(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2, answers=3)
    page = browse(bob, java_script_enabled=False)
    begin(page, campaign)
    for letter, place in zip("ABC", "213", strict=True):
        page.get_by_label(f"Place of answer {letter}").select_option(place)
    page.get_by_role("button", name="Save").click()
    assert echo(page) == "Saved: B > A > C"


def test_above_six_answers_two_picks_say_best_and_worst(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2, answers=7)
    page = browse(bob)
    begin(page, campaign)
    say(page, "3", "b", "5", "w", "Enter")
    assert echo(page) == "Saved: C > A = B = D = F = G > E"


def test_everything_at_once_by_keyboard_alone(site, browse, project, bob):
    campaign = open_campaign(
        project,
        comparisons=2,
        asks=["compare", "mark", "rate", "correct", "critique", "spans"],
        criteria=CRITERIA,
        reasons=["Clearer", "Shorter"],
    )
    page = browse(bob)
    begin(page, campaign)
    for key in ("a", "j", "m", "Shift+ArrowRight", "1"):  # the first two words of A are wrong
        page.keyboard.press(key)
    page.keyboard.type("No.")
    page.keyboard.press("Escape")
    page.locator("input[name=rate_0_helpful]").first.focus()
    for digit in "4532":
        page.keyboard.press(digit)
    page.keyboard.press("n")
    page.keyboard.type("A is at least short; b, x and s are letters.")
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("Mended.")
    page.locator(".changes ins").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("Draft saved").wait_for()
    page.reload()
    assert page.locator("textarea.in-place").first.input_value() == "Mended."
    page.get_by_label("Shorter").check(force=True)
    page.locator("#ballot").focus()
    say(page, "Enter")
    assert echo(page).startswith(
        "Saved: A better than B, and good; A: helpful 4, honest 5; B: help"
    )
    vote = Ballot.objects.exclude(outcome="").get()
    (marked,) = screen.marked(vote)
    assert (marked[0], marked[2], marked[3]) == ("A", "Wrong", "No.")
    assert marked[1].startswith("Answer 0.")
    assert screen.corrected(vote)[0][2] == "Mended."
    assert vote.reasons == ["Shorter"]
    assert vote.comment.startswith("A is at least short; b, x")


def test_places_are_counted_in_characters_whatever_they_are_made_of(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=1, answers=1, asks=["rate", "spans"],
                             criteria=CRITERIA)  # fmt: skip
    completion = campaign.comparisons.get().candidates.get()
    completion.text = "\n🦉🦉 owls &amp; <b>naïve</b>\r\nthings"
    completion.save()
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("r")
    page.evaluate(
        """() => {
            const text = document.querySelector(".raw").firstChild;
            const at = text.data.indexOf("naïve");
            getSelection().setBaseAndExtent(text, at, text, at + 5);
            document.dispatchEvent(new PointerEvent("pointerup"));
        }"""
    )
    page.locator("[data-labels]").wait_for()
    page.get_by_role("button", name="Unclear").click()
    page.keyboard.press("Escape")
    page.locator("input[name=rate_0_helpful]").first.focus()
    for digit in "45":
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/campaigns/{campaign.pk}/")
    (marked,) = screen.marked(Ballot.objects.exclude(outcome="").get())
    assert marked == ("A", "naïve", "Unclear", "")
