"""Skips, flags and undos are kept like votes: without a network, in a closed tab, signed out."""

from __future__ import annotations

import pytest

from plumbline.collect import queue
from plumbline.collect.models import Ballot
from tests.browser.test_flow_browser import forgive
from tests.browser.test_labelling import begin, say
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SENT = "() => localStorage.getItem('outbox') === '{}'"


def shown(page) -> str:
    return page.locator("#ballot").get_attribute("data-ballot")


def test_a_skip_and_a_flag_made_offline_survive_a_closed_tab(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=4)
    page = browse(bob)
    begin(page, campaign)
    for keys, outcome in (("s2", "skipped"), ("f1", "flagged")):
        page.context.set_offline(True)
        for key in keys:
            page.keyboard.press(key)
        page.get_by_text("1 unsynced").wait_for()
        context = page.context
        page.close()
        context.set_offline(False)
        page = context.new_page()
        page.goto("/p/alpha/")
        page.wait_for_function(SENT)
        assert Ballot.objects.filter(outcome=outcome).count() == 1
        begin_again(page, campaign)
    assert Ballot.objects.get(outcome="flagged").flag.reason == "Upsetting or unsafe"
    forgive(browse)


def begin_again(page, campaign) -> None:
    page.goto(f"/p/alpha/campaigns/{campaign.pk}/")
    page.get_by_role("button", name="Start comparing").or_(
        page.get_by_role("button", name="Continue")
    ).click()
    page.wait_for_url("**/ballots/**")


def test_a_skip_made_offline_goes_by_itself_and_the_next_one_comes(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    before = shown(page)
    page.context.set_offline(True)
    page.keyboard.press("s")
    page.keyboard.press("3")
    page.get_by_text("1 unsynced").wait_for()
    assert shown(page) == before, "the next one comes only on the server's word"
    page.context.set_offline(False)
    page.wait_for_selector("[data-echo] .success")
    assert "Skipped." in page.locator("[data-echo]").inner_text()
    assert shown(page) != before
    assert page.locator("[data-unsynced]").is_hidden()
    forgive(browse)


def test_an_undo_made_offline_brings_the_answer_back_once(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    question = page.locator(".asked").inner_text()
    say(page, "b", "Enter")
    page.context.set_offline(True)
    page.keyboard.press("u")
    page.get_by_text("1 unsynced").wait_for()
    page.keyboard.press("u")  # and once more, as one does
    page.context.set_offline(False)
    page.wait_for_function("q => document.querySelector('.asked').innerText === q", arg=question)
    assert "Taken back." in page.locator("[data-echo]").inner_text()
    assert page.locator("input[value=B2]").is_checked()
    assert Ballot.objects.filter(outcome="withdrawn").count() == 1
    assert not queue.standing(campaign.comparisons.all()).exists()
    forgive(browse)


def test_a_session_that_ended_loses_no_skip_and_says_what_waits(site, browse, project, bob):
    bob.set_password("a long enough secret")
    bob.save()
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("s")
    page.keyboard.press("1")
    page.wait_for_url("**/accounts/login/**")
    assert "Nothing is lost" in page.locator(".lede").inner_text()
    assert "One answer waits in this browser" in page.locator("[data-waiting]").inner_text()
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill("a long enough secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-echo] .success")
    assert "Skipped." in page.locator("[data-echo]").inner_text()
    assert Ballot.objects.filter(outcome="skipped").count() == 1


def test_a_session_that_ended_before_a_plain_form_comes_back_to_its_page(
    site, browse, project, bob
):
    bob.set_password("a long enough secret")
    bob.save()
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    here = f"/p/alpha/campaigns/{campaign.pk}/"
    page.goto(here)
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Start comparing").click()
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill("a long enough secret")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{here}")


def test_what_was_typed_before_a_skip_comes_back_with_an_undo(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("n")
    page.keyboard.type("Half a thought")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.get_by_text("Draft saved").wait_for()
    say(page, "3")
    say(page, "u")
    assert page.locator("#comment").input_value() == "Half a thought"
