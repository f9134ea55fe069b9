"""What a campaign may choose: a look before saving, word counts, a word to the hasty."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from plumbline.collect import queue, screen
from plumbline.collect.models import Ballot
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def bobs(bob, client_for):
    return client_for(bob)


def url(ballot) -> str:
    return f"/p/alpha/ballots/{ballot.pk}/"


def sent(**more) -> dict[str, str]:
    return {"choice": "A2", "key": str(uuid4()), "active_ms": "4000", **more}


def looked_at(page: str) -> str:
    return re.search(r'name="reviewed" value="(\w+)"', page)[1]


def test_a_vote_is_shown_in_words_first_and_kept_when_it_is_sent_again(project, bob, bobs):
    ballot = queue.claim_next(bob, open_campaign(project, review=True))
    first = bobs.post(url(ballot), sent(comment="It is *true*."))
    page = first.content.decode()
    assert first.status_code == 200
    assert "You say: A better than B." in page
    assert "It is *true*." in page
    assert not Ballot.objects.get(pk=ballot.pk).outcome
    bobs.post(url(ballot), sent(comment="It is *true*.", reviewed=looked_at(page)))
    assert screen.sentence(Ballot.objects.get(pk=ballot.pk)) == "A better than B"


def test_what_is_changed_after_the_look_is_shown_again(project, bob, bobs):
    ballot = queue.claim_next(bob, open_campaign(project, review=True))
    seen = looked_at(bobs.post(url(ballot), sent()).content.decode())
    again = bobs.post(url(ballot), sent(choice="B3", reviewed=seen)).content.decode()
    assert "You say: B much better than A." in again
    assert not Ballot.objects.get(pk=ballot.pk).outcome


def test_the_look_shows_a_correction_and_keeps_the_time_that_has_passed(project, bob, bobs):
    campaign = open_campaign(project, review=True, asks=["compare", "correct"])
    ballot = queue.claim_next(bob, campaign)
    page = bobs.post(url(ballot), sent(correct_0="Quite another answer")).content.decode()
    assert "A, as you corrected it" in page
    assert "<ins>" in page
    assert re.search(r'name="active_ms" value="4000"', page)


def test_what_a_browser_kept_while_it_was_offline_is_taken_as_it_is(project, bob, bobs):
    ballot = queue.claim_next(bob, open_campaign(project, review=True))
    answer = bobs.post(url(ballot), sent(), headers={"accept": "application/json"})
    assert answer.json() == {"saved": "Saved: A better than B"}


def test_without_a_look_a_vote_is_one_step(project, bob, bobs):
    ballot = queue.claim_next(bob, open_campaign(project))
    bobs.post(url(ballot), sent())
    assert Ballot.objects.get(pk=ballot.pk).outcome == "ranked"


@pytest.mark.parametrize("shown", [True, False])
def test_word_counts_are_the_campaigns_choice(project, bob, bobs, shown):
    ballot = queue.claim_next(bob, open_campaign(project, word_counts=shown))
    page = bobs.get(url(ballot)).content.decode()
    assert ("2 words</p>" in page) is shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 words"),
        ("One", "1 word"),
        ("It isn’t 3.5 well-known words, **is** it?", "7 words"),
        ("東京は日本の首都です", "10 words"),
        ("서울은 수도입니다", "2 words"),
        ("word " * 1200, "1,200 words"),
    ],
)
def test_words_are_counted_in_scripts_with_and_without_spaces(text, words):
    assert screen.words(text) == words


def test_the_page_knows_how_fast_is_too_fast_where_people_are_told(project, bob, bobs):
    told = queue.claim_next(bob, open_campaign(project, quality={"seconds_least": 3.0}))
    assert 'data-pace="3.0 0.05"' in bobs.get(url(told)).content.decode()
    quiet = queue.claim_next(bob, open_campaign(project, quality={"warn_fast": False}))
    assert "data-pace" not in bobs.get(url(quiet)).content.decode()


def test_an_answer_taken_back_may_be_given_again_at_once(project, bob, bobs):
    campaign = open_campaign(project)
    ballot = queue.claim_next(bob, campaign)
    bobs.post(url(ballot), sent())
    again = queue.undo(bob, campaign)
    assert "data-pace" not in bobs.get(url(again)).content.decode()


def test_a_flagged_comparison_says_why_and_what_became_of_it(project, bob, bobs, alice):
    ballot = queue.claim_next(bob, open_campaign(project))
    flag = queue.flag(ballot, "Personal data", "A name is in it.", uuid4()).flag
    page = bobs.get(url(ballot)).content.decode()
    assert "You flagged this: Personal data." in page
    assert "“A name is in it.”" in page
    assert "A researcher will look at it." in page
    queue.resolve(flag, alice, "The name is made up", retire=False)
    assert "A researcher has looked: The name is made up" in bobs.get(url(ballot)).content.decode()
