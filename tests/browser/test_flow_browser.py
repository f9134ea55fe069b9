"""Nothing that a person says is lost: lost networks, closed tabs, ended sessions, two tabs."""

from __future__ import annotations

import pytest

from plumbline.collect import queue
from plumbline.collect.models import Ballot, Draft
from tests.browser.test_labelling import begin, say
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OFFLINE = ("404", "ERR_INTERNET_DISCONNECTED", "net::ERR", "htmx:sendError", "htmx:afterRequest")


def forgive(browse) -> None:
    """What a browser says of a network that the test itself took away."""
    browse.troubles[:] = [one for one in browse.troubles if not any(e in one for e in OFFLINE)]


def test_a_vote_survives_a_lost_network_and_a_closed_tab(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    page.context.set_offline(True)
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.get_by_text("1 unsynced").wait_for()
    assert page.locator("#ballot").count() == 1, "the next one comes only on the server's word"
    context = page.context
    page.close()
    context.set_offline(False)
    again = context.new_page()
    again.goto("/p/alpha/")
    again.wait_for_function("() => localStorage.getItem('outbox') === '{}'")
    vote = Ballot.objects.exclude(outcome="").get()
    assert vote.ranking[0] == [vote.shown[1]]
    forgive(browse)


def test_a_vote_of_another_person_waits_for_its_own(site, browse, project, bob, carol, client_for):
    campaign = open_campaign(project, comparisons=3, overlap=2)
    page = browse(bob)
    begin(page, campaign)
    page.context.set_offline(True)
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.get_by_text("1 unsynced").wait_for()
    cookie = client_for(carol).cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": site}])
    page.context.set_offline(False)
    page.wait_for_timeout(500)  # sent by carol's session, bob's ballot does not exist
    page.goto("/p/alpha/")
    page.get_by_text("1 unsynced (of another person)").wait_for()
    assert not Ballot.objects.exclude(outcome="").exclude(annotator=bob).exists()
    forgive(browse)


def test_two_tabs_show_one_comparison_and_give_one_vote(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    first = browse(bob)
    begin(first, campaign)
    second = first.context.new_page()
    second.goto(first.url)
    say(first, "a", "Enter")
    say(second, "b", "Enter")
    assert "your first answer stands" in second.locator("[data-echo]").inner_text()
    vote = Ballot.objects.exclude(outcome="").get()
    assert vote.ranking[0] == [vote.shown[0]]
    names = [tab.locator("#ballot").get_attribute("data-ballot") for tab in (first, second)]
    assert names[0] == names[1]


def test_what_the_server_has_taken_is_not_sent_again(site, browse, project, bob):
    page = browse(bob)
    begin(page, open_campaign(project, comparisons=5))
    waiting = "Object.keys(JSON.parse(localStorage.outbox ?? '{}')).length"
    for keys in (("b", "Enter"), ("s", "1"), ("f", "1"), ("u",)):
        say(page, *keys)
        assert page.evaluate(waiting) == 0, keys


def test_a_double_click_votes_once(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("a")
    page.get_by_role("button", name="Save").dblclick()
    page.wait_for_selector("[data-echo] .success")
    page.wait_for_timeout(300)
    assert Ballot.objects.exclude(outcome="").count() == 1


def test_a_draft_is_kept_by_the_server_and_found_on_another_machine(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3, reasons=["Clearer", "Shorter"])
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("b")
    page.get_by_label("Shorter").check(force=True)
    page.keyboard.press("n")
    page.keyboard.type("Half a thou")
    page.get_by_text("Draft saved").wait_for()
    page.wait_for_timeout(1200)
    fields = Draft.objects.get().fields
    assert fields == {"choice": "B2", "reasons": ["Shorter"], "comment": "Half a thou"}
    elsewhere = browse(bob)
    elsewhere.goto(page.url)
    assert elsewhere.locator("input[value=B2]").is_checked()
    assert elsewhere.get_by_label("Shorter").is_checked()
    assert elsewhere.locator("#comment").input_value() == "Half a thou"


def test_one_leafs_back_through_ones_answers_and_changes_one(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=3)
    page = browse(bob)
    begin(page, campaign)
    question = page.locator(".asked").inner_text()
    say(page, "b", "Enter")
    say(page, "a", "Enter")
    page.keyboard.press("p")
    page.get_by_role("heading", name="You said: A better than B.").wait_for()
    page.keyboard.press("p")
    page.get_by_role("heading", name="You said: B better than A.").wait_for()
    assert page.locator(".asked").inner_text() == question
    page.get_by_role("button", name="Change").click()
    page.locator("[data-verdict]").wait_for()
    assert page.locator("input[value=B2]").is_checked()
    say(page, "t", "Enter")
    standing = queue.standing(campaign.comparisons.all())
    assert standing.count() == 2
    assert standing.get(revises__isnull=False).ranking == [[0, 1]]


def test_an_answered_comparison_fits_a_phone(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob, width=390, has_touch=True)
    begin(page, campaign)
    page.get_by_label("A much better").tap(force=True)
    page.get_by_role("button", name="Save").tap()
    page.wait_for_selector("[data-echo] .success")
    page.get_by_role("link", name="Previous").tap()
    page.get_by_role("heading", name="You said: A much better than B.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_by_role("button", name="Next comparison").bounding_box()["height"] >= 44


def test_flagging_takes_a_reason_and_two_keys(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    begin(page, campaign)
    say(page, "f", "2")
    assert page.locator("[data-echo]").inner_text() == "Flagged. A researcher will look at it."
    assert Ballot.objects.get(outcome="flagged").flag.reason == "Personal data"


def test_a_persons_own_keys_work_and_the_help_shows_them(site, browse, project, bob):
    campaign = open_campaign(project, comparisons=2)
    page = browse(bob)
    page.goto("/p/alpha/my-keys/")
    page.get_by_label("They tie with two").fill("z")
    page.get_by_role("button", name="Keep these keys").click()
    page.get_by_text("Your keys are kept.").wait_for()
    begin(page, campaign)
    page.keyboard.press("t")
    assert page.locator("input[name=choice]:checked").count() == 0
    page.keyboard.press("?")
    assert page.locator("[data-action=tie] kbd").inner_text() == "Z"
    page.keyboard.press("Escape")
    say(page, "z", "Enter")
    assert page.locator("[data-echo]").inner_text() == "Saved: A and B tie"
