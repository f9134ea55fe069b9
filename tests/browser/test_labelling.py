"""A person labels by keyboard, by touch and without JavaScript, in a real Chromium."""

from __future__ import annotations

import re

import pytest

from plumbline.collect import queue
from plumbline.collect.models import Ballot
from tests.comparisons import compare, open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def begin(page, campaign) -> None:
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    page.get_by_role("button", name="Start comparing").click()
    page.wait_for_url("**/ballots/**")


def say(page, *keys: str) -> None:
    """Press keys; the last one changes the page, which then says so."""
    before = page.locator("#ballot").get_attribute("data-ballot")
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function(
        "before => !document.querySelector(`[data-ballot='${before}']`)", arg=before
    )


def test_several_comparisons_by_keyboard_alone(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=6, guidelines="Prefer **short**.")
    page = browse(bob)
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    page.wait_for_function("() => document.activeElement.matches('button')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ballots/**")
    for keys, said in [
        (["a"], "Saved: A better than B"),
        (["b", "b"], "Saved: B much better than A"),
        (["1", "ArrowRight"], "Saved: A slightly better than B"),
        (["t"], "Saved: A and B tie"),
        (["x"], "Saved: Both bad"),
    ]:
        say(page, *keys, "Enter")
        assert page.locator("[data-echo]").inner_text() == said
        assert said in page.locator("#live").inner_text()
    for key in ("g", "Escape", "r", "?", "Escape"):
        page.keyboard.press(key)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/campaigns/{campaign.pk}/")
    assert "Thank you: 6 votes" in page.locator("main").inner_text()
    votes = Ballot.objects.order_by("cast_at")
    assert [vote.strength for vote in votes] == [2, 3, 1, None, None, 2]
    for vote, best in zip(votes, ["A", "B", "A", "", "", "B"], strict=True):
        if best:
            assert vote.ranking[0] == [vote.shown["AB".index(best)]]
        assert vote.active_ms is not None
        assert vote.active_ms < 60_000


def test_enter_twice_votes_once_and_enter_alone_votes_not_at_all(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("Enter")
    assert page.locator("#live").inner_text() == "Choose A, B, tie or both bad first."
    page.evaluate(
        """() => {
            document.querySelector("input[value=A2]").click();
            const form = document.querySelector("[data-verdict]");
            for (let i = 0; i < 3; i++) form.requestSubmit();
        }"""
    )
    page.wait_for_selector("[data-echo] .success")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert Ballot.objects.exclude(outcome="").count() == 1


def test_undo_brings_back_the_comparison_with_its_choice(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    question = page.locator(".asked").inner_text()
    say(page, "b", "Enter")
    assert page.locator(".asked").inner_text() != question
    say(page, "u")
    assert page.locator(".asked").inner_text() == question
    assert page.locator("input[value=B2]").is_checked()
    say(page, "a", "Enter")
    (vote,) = queue.standing(campaign.comparisons.all())
    assert vote.ranking[0] == [vote.shown[0]]


def test_the_back_button_shows_what_was_said_and_forward_goes_on(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    say(page, "b", "Enter")
    question = page.locator(".asked").inner_text()
    page.go_back()
    page.get_by_role("heading", name="You said: B better than A.").wait_for()
    page.go_forward()
    page.locator("[data-verdict]").wait_for()
    assert page.locator(".asked").inner_text() == question
    say(page, "a", "Enter")
    assert Ballot.objects.exclude(outcome="").count() == 2


def test_a_skip_by_two_keys(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    say(page, "s", "3")
    skipped = Ballot.objects.get(outcome="skipped")
    assert skipped.reason == "I cannot decide"


def test_keys_do_nothing_in_a_text_field(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    page.get_by_text("Note", exact=True).click()
    page.locator("#comment:focus").wait_for()
    page.keyboard.type("sax bat u 12?")
    assert page.locator("#comment").input_value() == "sax bat u 12?"
    assert page.locator("input[name=choice]:checked").count() == 0
    page.keyboard.press("Escape")
    say(page, "a", "Enter")
    assert Ballot.objects.exclude(outcome="").get().comment == "sax bat u 12?"


def test_without_javascript_it_is_a_plain_form(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob, java_script_enabled=False)
    begin(page, campaign)
    page.get_by_label("B much better").check()
    page.get_by_role("button", name="Save").click()
    assert page.locator("[data-echo]").inner_text() == "Saved: B much better than A"
    page.get_by_role("button", name="Undo").click()
    assert "Taken back" in page.locator("[data-echo]").inner_text()
    page.locator("[data-skip] summary").click()
    page.get_by_role("button", name=re.compile("I cannot decide")).click()
    assert "Skipped" in page.locator("[data-echo]").inner_text()


def test_a_dropped_connection_keeps_the_vote_and_sends_it_later(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    page.context.set_offline(True)
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast.error")
    assert page.locator("input[value=A2]").is_checked()
    assert page.locator("[data-unsynced]").inner_text() == "1 unsynced"
    page.context.set_offline(False)
    page.wait_for_selector("[data-echo] .success")
    assert page.locator("[data-echo]").inner_text() == "Saved: A better than B"
    assert page.locator("[data-unsynced]").is_hidden()
    assert Ballot.objects.exclude(outcome="").count() == 1
    expected = ("ERR_INTERNET_DISCONNECTED", "net::ERR", "htmx:sendError", "htmx:afterRequest")
    browse.troubles[:] = [line for line in browse.troubles if not any(e in line for e in expected)]


def test_a_session_that_ended_in_mid_task_loses_no_vote(site, browse, project, bob):
    bob.set_password("a long enough secret")
    bob.save()
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("b")
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/login/**")
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill("a long enough secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-echo] .success")  # the vote is sent by itself
    assert page.locator("[data-echo]").inner_text() == "Saved: B better than A"
    assert Ballot.objects.exclude(outcome="").count() == 1


def test_hostile_answers_do_nothing_in_a_browser(site, browse, project, bob):
    from tests.collect.test_render import PAYLOADS

    campaign = open_campaign(project, comparisons=1)
    prompts = campaign.comparisons.get().prompt.set
    texts = ["\n\n".join(PAYLOADS[::2]), "\n\n".join(PAYLOADS[1::2])]
    compare(campaign, prompts, "<script>alert(1)</script>", texts, priority=1)
    page = browse(bob)
    page.on("dialog", lambda dialog: browse.troubles.append("a dialog opened"))
    begin(page, campaign)
    page.keyboard.press("r")
    page.wait_for_timeout(200)
    assert page.locator("#ballot img, #ballot script, #ballot iframe, #ballot [style]").count() == 0
    say(page, "x", "Enter")


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(site, browse, project, bob, dark):
    campaign = open_campaign(project, comparisons=1)
    prompts = campaign.comparisons.get().prompt.set
    long = "One sentence follows another here. " * 40
    compare(campaign, prompts, "A longer question than usual?", [long, long + "End."], priority=1)
    page = browse(bob, width=390, dark=dark, has_touch=True)
    begin(page, campaign)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    verdict = page.locator(".verdict").bounding_box()
    assert verdict["y"] + verdict["height"] <= 844 + 1, "the verdict stays in sight"
    assert verdict["height"] < 844 / 4
    a, b = page.locator(".pane").all()
    assert a.bounding_box()["y"] < b.bounding_box()["y"], "answers are stacked"
    for control in page.locator(".verdict label, .verdict button, .tools button:visible").all():
        box = control.bounding_box()
        assert box["height"] >= 44, control.inner_text()
        assert box["width"] >= 44, control.inner_text()
    page.get_by_label("A much better").tap(force=True)
    page.get_by_role("button", name="Save").tap()
    page.wait_for_selector("[data-echo] .success")


def test_the_theme_follows_the_system_until_it_is_chosen(site, browse, project, bob):
    page = browse(bob, dark=True)
    page.goto("/p/alpha/")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme: system").click()
    assert page.evaluate(ground) != dark
    page.reload()
    assert page.get_by_role("button", name="Theme: light").count() == 1
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(ground) == dark
