"""Web hosts whose clocks are wrong: claims last as long as they should, by the database's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.collect import queue
from plumbline.collect.models import Enrolment
from tests.comparisons import open_campaign

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.parametrize("skew", [timedelta(minutes=-10), timedelta(minutes=10)], ids=str),
]
LEASE = 300  # seconds, half of what the clocks differ


@pytest.fixture
def elsewhere(monkeypatch, skew) -> Callable:
    """`with elsewhere():` on a host whose clock is wrong."""
    right = timezone.now

    @contextmanager
    def wrong() -> Iterator[None]:
        with monkeypatch.context() as host:
            host.setattr(timezone, "now", lambda: right() + skew)
            yield

    return wrong


@pytest.fixture
def campaign(project):
    return open_campaign(project, comparisons=1, lease_seconds=LEASE)


def test_a_claim_made_anywhere_is_held_everywhere(campaign, bob, carol, elsewhere, prefer):
    mine = queue.claim_next(bob, campaign)
    with elsewhere():
        assert queue.claim_next(carol, campaign) is None, "the seat is bob's yet"
        assert queue.progress(carol, campaign).left == 0
        assert queue.is_live(mine)
        assert queue.claim_next(bob, campaign) == mine
        assert prefer(mine).outcome == "ranked"


def test_a_claim_made_on_a_wrong_host_lasts_as_long_as_any(campaign, bob, carol, elsewhere):
    with elsewhere():
        before = timezone.now()
        mine = queue.claim_next(bob, campaign)
        assert abs(timezone.now() - before) < timedelta(minutes=1)
    left = mine.expires_at - timezone.now()
    assert timedelta(seconds=LEASE - 60) < left <= timedelta(seconds=LEASE + 1)
    assert queue.is_live(mine)
    assert queue.claim_next(bob, campaign) == mine
    assert queue.claim_next(carol, campaign) is None


def test_a_claim_that_has_ended_is_free_for_all_and_its_vote_late(
    campaign, bob, carol, elsewhere, let_expire, prefer
):
    late = queue.claim_next(bob, campaign)
    let_expire(late)
    with elsewhere():
        assert not queue.is_live(late)
        assert queue.progress(carol, campaign).left == 1
        theirs = queue.claim_next(carol, campaign)
        assert theirs is not None
        assert theirs.seat == 0
        with pytest.raises(queue.TooLate):
            prefer(late)


def test_what_was_said_last_is_taken_back_whoever_stored_it(project, bob, elsewhere, prefer):
    campaign = open_campaign(project, comparisons=3, lease_seconds=LEASE)
    with elsewhere():
        first = prefer(queue.claim_next(bob, campaign))
    last = prefer(queue.claim_next(bob, campaign))
    with elsewhere():
        assert queue.last_said(bob, campaign) == last
        again = queue.undo(bob, campaign)
    assert again.comparison == last.comparison
    assert queue.is_live(again)
    assert queue.last_said(bob, campaign) == first


def test_a_reopened_vote_is_open_as_long_as_any(campaign, bob, elsewhere, prefer):
    vote = prefer(queue.claim_next(bob, campaign))
    with elsewhere():
        again = queue.reopen(vote)
        assert queue.reopen(vote) == again
    assert queue.is_live(again)


def test_a_vote_before_its_voter_came_is_theirs(project, bob, elsewhere, prefer):
    """Both are dated by the database."""
    campaign = open_campaign(project, comparisons=2)
    with elsewhere():
        vote = prefer(queue.claim_next(bob, campaign))
    assert Enrolment.objects.get(user=bob).joined_at <= vote.cast_at
    found = queue.claim(bob, campaign)
    assert isinstance(found, queue.Claim)
    assert found.last == vote.pk
