"""The chat page in a real Chromium: by keyboard, side by side, on a phone, through trouble."""

from __future__ import annotations

import pytest

from plumbline.gateway.models import ClientComparison, Feedback

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WHOLE = ".chat-turn:last-child .chat-answer[data-state=done]"


def send(page, words: str) -> None:
    page.locator("#words").focus()
    page.keyboard.type(words)
    page.keyboard.press("Enter")


def test_two_policies_are_compared_blind_by_keyboard(
    site,
    browse,
    project,
    alice,
    relay,
    live_gateway,
    babbling,
    faults,
):
    page = browse(alice)
    page.set_default_timeout(40_000)  # an engine on a busy machine
    page.goto("/p/alpha/chat/")
    assert not faults(page)
    page.locator("summary", has_text="Settings").click()
    page.get_by_label("Longest answer").fill("24")
    page.keyboard.press("Escape")
    relay.pause = 0.05
    send(page, "What is the capital of France?")
    streaming = page.locator("[data-streaming]")
    page.wait_for_function(
        "() => document.querySelector('[data-streaming]')?.textContent.length > 5"
    )
    first = streaming.text_content()
    page.locator(WHOLE).wait_for()
    whole = page.locator(".chat-answer [data-rendered]")
    assert whole.inner_text().strip(), "rendered, where plain text was"
    assert first
    assert babbling.name in page.locator(".chat-answer h2").inner_text()
    relay.pause = 0.0
    page.get_by_role("button", name="Compare with…").click()
    page.get_by_label("Blind").check()
    send(page, "And of Spain?")
    page.locator(".chat-verdict:not([hidden])").wait_for()
    assert page.get_by_text("hidden until you judge").count() == 2
    assert not faults(page)
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.locator(".chat-verdict", has_text="Both go on with B.").wait_for()
    row = ClientComparison.objects.get()
    assert (row.user, row.ranking, row.consent_train) == (alice, [[1], [0]], True)
    assert page.get_by_text("hidden until you judge").count() == 0
    page.keyboard.press("g")
    page.locator("[data-thumb='1'][aria-pressed=true]").wait_for()
    assert Feedback.objects.get().score == 1
    page.locator("#words").fill("Half a thought")
    page.reload()
    assert page.locator(".chat-turn").count() == 2
    assert page.locator("#words").input_value() == "Half a thought"
    assert page.locator(".chat-answer.preferred").count() == 1
    assert not faults(page)


def test_a_phone_through_trouble_and_back(
    site,
    browse,
    project,
    alice,
    relay,
    live_gateway,
    babbling,
    faults,
):
    page = browse(alice, width=390, dark=True)
    page.set_default_timeout(40_000)
    page.goto("/p/alpha/chat/")
    page.locator("summary", has_text="Settings").click()
    page.get_by_label("Longest answer").fill("12")
    assert not faults(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare with…").click()
    relay.break_off = 1
    send(page, "How long do I boil an egg?")
    page.locator("[data-trouble]:not([hidden])").wait_for()
    page.locator(WHOLE).wait_for()
    assert not faults(page)
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Prefer A").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not faults(page)
    page.get_by_role("button", name="Tie").click()
    page.locator(".chat-verdict", has_text="A tie.").wait_for()
    assert ClientComparison.objects.get().ranking == [[0, 1]]
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("button", name="Both bad").wait_for()
    assert not ClientComparison.objects.exists()
    page.context.set_offline(True)
    send(page, "And without the network?")
    page.get_by_text("The server cannot be reached.").first.wait_for()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").first.click()
    page.get_by_role("button", name="Prefer B").wait_for()
    browse.troubles[:] = [one for one in browse.troubles if "ERR_INTERNET_DISCONNECTED" not in one]
