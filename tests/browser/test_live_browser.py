"""Two answers written before a person's eyes: a real engine, a real gateway, a real Chromium."""

from __future__ import annotations

import re
import time

import pytest

from plumbline.collect.models import Ballot, Comparison, Completion, LiveAnswer
from tests.collect.live_ground import live_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def begin(page, campaign) -> None:
    page.set_default_timeout(40_000)  # an engine on a busy machine
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    page.get_by_role("button", name="Start comparing").click()
    page.wait_for_url("**/ballots/**")


def texts(page) -> list[str]:
    return page.locator("[data-streaming]").all_inner_texts()


def wait_begun(page, characters: int = 10) -> None:
    page.wait_for_function(
        "n => [...document.querySelectorAll('.raw')].every((one) => one.textContent.length > n)",
        arg=characters,
    )


def test_both_stream_side_by_side_to_their_ends(
    site, browse, project, bob, relay, live_gateway, babbling
):
    campaign = live_campaign(project, prompts=2, max_tokens=60)
    relay.pause = 0.04
    page = browse(bob)
    begin(page, campaign)
    wait_begun(page)
    first = texts(page)
    page.wait_for_function(
        "before => [...document.querySelectorAll('[data-streaming]')]"
        ".every((one, n) => one.textContent.length > before[n].length + 10)",
        arg=first,
    )
    later = texts(page)
    assert all(now.startswith(then) for now, then in zip(later, first, strict=True))
    assert set(LiveAnswer.objects.values_list("state", flat=True)) == {"writing"}
    page.locator("[data-pane=A][data-state=done]").wait_for()
    page.locator("[data-pane=B][data-state=done]").wait_for()
    assert page.locator("[data-streaming]").count() == 0
    assert "finished" in page.locator("#live").inner_text()
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.locator("[data-echo]").get_by_text("Saved: B better than A").wait_for()
    vote = Ballot.objects.exclude(outcome="").get()
    for slot in vote.comparison.slots.all():
        assert slot.completion.policy == babbling
        assert slot.completion.finish_reason in ("stop", "length")
        assert slot.completion.token_ids


def test_an_early_verdict_by_keyboard_keeps_exactly_what_was_on_the_screen(
    site, browse, project, bob, relay, live_gateway, babbling
):
    campaign = live_campaign(project, prompts=1, max_tokens=200)
    relay.pause = 0.12
    page = browse(bob)
    begin(page, campaign)
    wait_begun(page)
    assert "saving stops the writing" in page.locator("[data-live-note]").inner_text()
    # The page is held still, so that what is read here is what is sent.
    page.route("**/news/**", lambda route: None)
    page.wait_for_timeout(400)
    shown = [pane.text_content() for pane in page.locator("[data-streaming]").all()]
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/campaigns/{campaign.pk}/")
    vote = Ballot.objects.exclude(outcome="").get()
    kept = {slot.slot: slot.completion for slot in vote.comparison.slots.all()}
    assert [kept[slot].text for slot in vote.shown] == shown
    assert {one.finish_reason for one in kept.values()} == {"cut"}
    assert {one.token_ids for one in kept.values()} == {None}
    assert vote.ranking[0] == [vote.shown[0]]
    deadline = time.monotonic() + 10
    while relay.left.count(True) < 2:
        assert time.monotonic() < deadline, "the engine still writes"
        time.sleep(0.05)


def test_one_side_breaks_off_and_is_tried_again_while_the_other_goes_on(
    site, browse, project, bob, relay, live_gateway, babbling
):
    campaign = live_campaign(project, prompts=1, max_tokens=60)
    relay.pause, relay.break_off, relay.pieces = 0.04, 1, 8
    page = browse(bob)
    begin(page, campaign)
    broken = page.locator("[data-pane][data-state=failed]")
    broken.wait_for()
    assert "The other one is not affected" in broken.inner_text()
    letter = broken.get_attribute("data-pane")
    other = page.locator(f"[data-pane]:not([data-pane={letter}])")
    assert other.get_attribute("data-state") in ("writing", "done")
    broken.get_by_role("button", name="Try again").click()
    page.locator(f"[data-pane={letter}][data-state=done]").wait_for()
    page.locator(f"[data-pane]:not([data-pane={letter}])[data-state=done]").wait_for()
    page.keyboard.press("t")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/campaigns/{campaign.pk}/")
    assert {one.finish_reason for one in Completion.objects.all()} <= {"stop", "length"}
    assert sorted(LiveAnswer.objects.values_list("attempt", flat=True)) == [1, 2]


def test_a_closed_tab_is_found_again_and_a_second_tab_shows_the_same(
    site, browse, project, bob, relay, live_gateway, babbling
):
    campaign = live_campaign(project, prompts=2, max_tokens=60)
    relay.pause = 0.06
    page = browse(bob)
    begin(page, campaign)
    wait_begun(page)
    context, url = page.context, page.url
    page.close()
    assert not Completion.objects.exists()
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        begin(tab, campaign)
        assert tab.url == url
    for tab in tabs:
        tab.locator("[data-pane=A][data-state=done]").wait_for(timeout=30_000)
        tab.locator("[data-pane=B][data-state=done]").wait_for(timeout=30_000)
    shown = [tab.locator(".rendered").all_inner_texts() for tab in tabs]
    assert shown[0] == shown[1]
    for tab, key in zip(tabs, "ab", strict=True):
        tab.keyboard.press(key)
        tab.keyboard.press("Enter")
        tab.wait_for_function("id => !location.href.includes(id)", arg=url.split("/")[-2])
    vote = Ballot.objects.exclude(outcome="").get()
    assert vote.ranking[0] == [vote.shown[0]], "the first answer stands"
    assert Comparison.objects.filter(slots__isnull=False).distinct().count() == 1


def test_the_browser_never_learns_who_writes(
    site, browse, project, bob, relay, live_gateway, babbling
):
    campaign = live_campaign(project, prompts=1, max_tokens=20, second=babbling.name)
    page = browse(bob)
    heard: list[str] = []

    def listen(response) -> None:
        if response.url.startswith(site) and "/static/" not in response.url:
            heard.append(f"{response.url} {response.all_headers()}")
            if response.status == 200:
                heard.append(response.text())

    page.on("response", listen)
    begin(page, campaign)
    page.locator("[data-pane=A][data-state=done]").wait_for()
    page.locator("[data-pane=B][data-state=done]").wait_for()
    page.wait_for_timeout(300)
    everything = "\n".join(heard)
    assert re.search(r"/news/", everything)
    for word in (babbling.name, str(babbling.pk), "current", "x-policy"):
        assert word not in everything.lower().replace("aria-current", "").replace(
            "currentcolor", ""
        )


def test_people_write_on_a_phone_and_go_on_with_the_better_answer(
    site, browse, project, bob, relay, live_gateway, babbling, faults
):
    campaign = live_campaign(project, prompts=0, max_tokens=30)
    page = browse(bob, width=390)
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    page.get_by_role("link", name="Write a message").click()
    assert not faults(page)
    page.keyboard.type("What is the capital of France?")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/ballots/**")
    page.locator("[data-pane=B][data-state=done]").wait_for()
    page.locator("[data-pane=A][data-state=done]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not faults(page)
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.wait_for_url("**/write/")
    page.get_by_role("heading", name="Go on").wait_for()
    vote = Ballot.objects.exclude(outcome="").get()
    better = vote.comparison.slots.get(slot=vote.shown[1]).completion.text
    assert page.locator(".thread .turn").count() == 2
    assert not faults(page)
    page.keyboard.type("And of Spain?")
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/ballots/**")
    turns = Ballot.objects.get(outcome="").comparison.prompt.messages
    assert [turn["content"] for turn in turns] == [
        "What is the capital of France?",
        better,
        "And of Spain?",
    ]
