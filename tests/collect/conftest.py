"""Campaigns and time travel for the tests of collection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.comparisons import open_campaign, shared_db  # noqa: F401  # a fixture


@pytest.fixture
def campaign(project):
    """Three pairs, one vote wanted on each."""
    return open_campaign(project)


@pytest.fixture
def prefer() -> Callable:
    """`prefer(ballot, slot)`: vote for a slot, under a key of its own."""
    from plumbline.collect import queue

    def vote(ballot, best: int = 0, key=None):
        rest = [slot for slot in ballot.shown if slot != best]
        verdict = queue.Verdict("ranked", ranking=[[best], rest], strength=2)
        return queue.cast(ballot, verdict, key or uuid4())

    return vote


@pytest.fixture
def let_expire() -> Callable:
    """`let_expire(ballot)`: its lease ended a second ago."""
    from plumbline.collect.models import Ballot

    def expire(ballot) -> None:
        ago = timedelta(seconds=(ballot.expires_at - ballot.claimed_at).total_seconds() + 1)
        Ballot.objects.filter(pk=ballot.pk).update(
            claimed_at=ballot.claimed_at - ago, expires_at=ballot.expires_at - ago
        )

    return expire
