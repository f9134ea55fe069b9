"""A second look before saving, a word to the hasty, what a form lacks, live texts at rest."""

from __future__ import annotations

import pytest

from plumbline.collect.models import Ballot
from tests.browser.test_labelling import begin, say
from tests.collect.live_ground import grow, live_campaign
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CRITERIA = [{"name": "helpful"}]


def votes() -> list[str]:
    return list(Ballot.objects.exclude(outcome="").values_list("outcome", flat=True))


def on_page(page) -> Ballot:
    return Ballot.objects.get(pk=page.url.rstrip("/").split("/")[-1])


def test_a_vote_is_read_back_before_it_is_saved_by_keyboard_alone(
    site, browse, project, bob, faults
):
    campaign = open_campaign(project, comparisons=2, answers=3, review=True)
    page = browse(bob)
    begin(page, campaign)
    for key in ("2", "1", "3", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("heading", name="You say: B > A > C.").wait_for()
    assert votes() == []
    assert "B > A > C" in page.locator("#live").inner_text()
    assert faults(page) == []
    page.keyboard.press("1")
    page.keyboard.press("Alt+ArrowUp")
    assert page.locator("[data-review]").count() == 0, "what was changed is no longer what it says"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="You say: A > B > C.").wait_for()
    say(page, "Enter")
    assert page.locator("[data-echo]").inner_text() == "Saved: A > B > C"
    assert votes() == ["ranked"]


def test_a_critique_is_read_back_from_within_its_field(site, browse, project, bob):
    asks = ["compare", "correct", "critique"]
    page = browse(bob, width=390)
    begin(page, open_campaign(project, comparisons=2, asks=asks, review=True))
    both = (page.locator("[data-step=bad]"), page.get_by_role("button", name="Review"))
    bad, save = (one.bounding_box()["y"] for one in both)
    assert bad == pytest.approx(save, abs=12), "side by side, in thumb's reach"
    page.keyboard.press("e")
    page.get_by_label("Answer A, corrected").fill("Quite another")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.locator("#comment").fill("It says what to do.")
    page.keyboard.press("Control+Enter")
    read_back = page.locator("[data-review]")
    read_back.wait_for()
    page.wait_for_function(
        """() => { const box = document.querySelector("[data-review]").getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight + 1; }"""
    )
    assert "It says what to do." in read_back.inner_text()
    assert read_back.locator("ins").inner_text() == "Quite another"
    say(page, "Enter")
    assert votes() == ["ranked"]


def test_a_hasty_vote_is_saved_and_told_so_once_in_a_while(site, browse, project, bob):
    page = browse(bob)
    begin(page, open_campaign(project, comparisons=4, quality={"seconds_least": 600.0}))
    toast = page.locator(".toast")
    say(page, "a", "Enter")
    assert "quicker than these answers can be read" in toast.inner_text()
    page.evaluate("document.querySelector('.toast').remove()")
    say(page, "b", "Enter")
    assert votes() == ["ranked", "ranked"]
    assert toast.count() == 0, "not at every vote"


def test_who_takes_their_time_is_told_nothing(site, browse, project, bob):
    quality = {"seconds_least": 0.2, "seconds_a_word": 0.0}
    page = browse(bob)
    begin(page, open_campaign(project, comparisons=2, quality=quality))
    page.wait_for_timeout(400)
    say(page, "a", "Enter")
    assert page.locator(".toast").count() == 0


def test_what_a_form_lacks_is_said_in_words_and_shown_where_it_is(site, browse, project, bob):
    asks = ["compare", "rate", "critique"]
    page = browse(bob)
    begin(page, open_campaign(project, comparisons=1, asks=asks, criteria=CRITERIA))
    live = page.locator("#live")
    page.get_by_role("button", name="Save").click()
    assert live.inner_text() == "Choose A, B, tie or both bad first."
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    assert "Rate each answer first; Helpful of answer A is missing." in live.inner_text()
    for key in ("4", "2", "Enter"):
        page.keyboard.press(key)
    assert live.inner_text() == "Say why in words; this campaign asks for it."
    page.keyboard.type("It answers.")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/campaigns/**")
    assert votes() == ["ranked"]


def test_a_live_answer_is_corrected_and_marked_once_it_has_ended(site, browse, project, bob):
    campaign = live_campaign(project, prompts=1, asks=["compare", "correct", "spans"])
    page = browse(bob)
    begin(page, campaign)
    ballot = on_page(page)
    left, right = ballot.shown
    grow(ballot, left, "Paris is")
    grow(ballot, right, "Lyon is it.")
    page.locator("[data-streaming]", has_text="Lyon is it.").wait_for()
    assert page.locator("[data-correct]:visible").count() == 0
    page.keyboard.press("m")
    assert "still being written" in page.locator(".toast").inner_text()
    for slot, text in ((left, "Paris is the capitol."), (right, "Lyon is it.")):
        grow(ballot, slot, text, "done", finish_reason="stop")
    page.locator("[data-correct]").nth(1).wait_for()
    page.keyboard.press("e")
    area = page.get_by_label("Answer A, corrected")
    assert area.input_value() == "Paris is the capitol."
    area.fill("Paris is the capital.")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/campaigns/**")
    stored = Ballot.objects.get(pk=ballot.pk)
    assert stored.corrections == {str(left): "Paris is the capital."}
