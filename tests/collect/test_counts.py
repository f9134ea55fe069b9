"""What researchers' pages say of a large campaign is what they would say of a small one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from plumbline.collect import counts, queue, throughput
from plumbline.collect.models import Ballot
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign(project, bob, carol, prefer):
    """With three votes and a skip; one comparison has gone stale."""
    made = open_campaign(project, comparisons=6, overlap=2)
    for person in (bob, bob, carol):
        prefer(queue.claim_next(person, made))
    queue.skip(queue.claim_next(carol, made), "no idea", "0" * 32)
    unseen = made.comparisons.filter(ballots=None).order_by("pk").last()
    made.comparisons.filter(pk=unseen.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    made.refresh_from_db()
    return made


def said(campaign):
    cache.clear()
    pace = throughput.of(campaign)
    figures = (
        pace.votes,
        pace.wanted,
        pace.people,
        pace.pace,
        pace.active_hours,
        pace.most,
        pace.expired,
    )
    return (*figures, counts.votes(campaign), counts.wanted(campaign), counts.kinds(campaign))


def test_figures_do_not_depend_on_how_they_are_counted(campaign, monkeypatch):
    small = said(campaign)
    assert small[:2] == (3, 10)
    monkeypatch.setattr(counts, "LARGE", 1)
    assert counts.large(campaign)
    assert said(campaign) == small


def test_votes_and_their_hours_are_new_at_every_look(campaign, bob, prefer, monkeypatch):
    monkeypatch.setattr(counts, "LARGE", 1)
    cache.clear()
    before = throughput.of(campaign)
    prefer(queue.claim_next(bob, campaign))
    after = throughput.of(campaign)
    assert (after.votes, after.most) == (before.votes + 1, before.most + 1)
    assert after.unmeasured == before.unmeasured + 1


def test_what_was_cast_long_ago_is_read_once(campaign, monkeypatch):
    monkeypatch.setattr(counts, "LARGE", 1)
    cache.clear()
    old = timezone.now() - timedelta(hours=3)
    Ballot.objects.exclude(outcome="").update(cast_at=old, claimed_at=old - timedelta(minutes=1))
    asked: list[tuple[object, object]] = []

    def count(after, until):
        asked.append((after, until))
        return throughput._paid(campaign, after, until)

    first = counts.grown(campaign, "test", count)
    assert first["unmeasured"] == 3
    assert asked[0][0] is None
    again = counts.grown(campaign, "test", count)
    assert again == first
    assert all(after is not None for after, _ in asked[1:]), "only what has come since"


def test_a_rounds_tally_does_not_depend_on_how_it_is_counted(campaign, monkeypatch):
    cache.clear()
    small = counts.tally(campaign)
    monkeypatch.setattr(counts, "LARGE", 1)
    cache.clear()
    assert counts.tally(campaign) == small == queue.tally(campaign)
