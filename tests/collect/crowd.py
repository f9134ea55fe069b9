"""Votes made directly, as the queue would leave them, at times of the test's choosing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.utils import timezone

from plumbline.collect.models import Ballot, Campaign, Comparison

EVENING = datetime(2026, 11, 20, 18, tzinfo=timezone.get_default_timezone())


def vote(user, comparison: Comparison, ranking: Sequence[Sequence[int]] = (), **fields) -> Ballot:
    """A vote of a person, by default later than all before it; `ranking` empty is all bad."""
    shown = fields.pop("shown", [slot.slot for slot in comparison.slots.all()])
    last = Ballot.objects.order_by("-cast_at").values_list("cast_at", flat=True).first()
    at = fields.pop("at", None) or (last or EVENING) + timedelta(minutes=1)
    before = comparison.ballots.filter(annotator=user).order_by("-revision").first()
    seat = comparison.ballots.filter(seat__isnull=False).count()
    settings = {
        "outcome": "ranked" if ranking else "all_bad",
        "ranking": [list(group) for group in ranking],
        "strength": 2 if len(ranking) > 1 else None,
        "active_ms": 20_000,
        "seat": None if before else seat,
        "revision": before.revision + 1 if before else 1,
        "revises": before,
    }
    return Ballot.objects.create(
        comparison=comparison,
        annotator=user,
        shown=shown,
        claimed_at=at - timedelta(seconds=30),
        expires_at=at + timedelta(minutes=15),
        cast_at=at,
        **{**settings, **fields},
    )


def skip(user, comparison: Comparison, **fields) -> Ballot:
    return vote(user, comparison, outcome="skipped", seat=None, **fields)


def gold(campaign: Campaign, number: int = 0, ranking=((0,), (1,)), **fields) -> Comparison:
    """A known comparison: the first answer is better, unless said otherwise."""
    from tests.comparisons import compare

    expected = {"outcome": "ranked", "ranking": [list(group) for group in ranking]}
    prompts = campaign.comparisons.first().prompt.set
    return compare(
        campaign,
        prompts,
        f"Known question {number}?",
        [f"Good {number}", f"Bad {number}"],
        kind="gold",
        expected=expected,
        overlap=32_767,
        **fields,
    )


def busy(campaign: Campaign, users: Sequence, overlap: int, seed: int = 0, weeks: int = 3) -> int:
    """Each comparison judged by `overlap` of the people, who mostly agree; how many votes."""
    draw = random.Random(seed)
    now = timezone.now()
    ballots = []
    for comparison in campaign.comparisons.order_by("pk"):
        better = draw.randrange(2)
        for seat, user in enumerate(draw.sample(list(users), overlap)):
            best = better if draw.random() < 0.8 else 1 - better
            tie = draw.random() < 0.15
            shown = draw.sample([0, 1], 2)
            at = now - timedelta(minutes=draw.randrange(60 * 24 * 7 * weeks))
            ballots.append(
                Ballot(
                    comparison=comparison,
                    annotator=user,
                    seat=seat,
                    shown=shown,
                    claimed_at=at - timedelta(seconds=30),
                    expires_at=at + timedelta(minutes=15),
                    cast_at=at,
                    outcome="ranked",
                    ranking=[[0, 1]] if tie else [[best], [1 - best]],
                    strength=None if tie else draw.choice([1, 2, 3]),
                    active_ms=draw.randrange(800, 60_000),
                )
            )
    Ballot.objects.bulk_create(ballots, batch_size=500)
    return len(ballots)
