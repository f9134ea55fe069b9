"""A judge's word as ballots of its account, beside those of people and never instead of one.

A ballot of a judge holds no seat: it takes nobody's place, a comparison wants as many people as
before, and none is full because of it. It stands as any vote does, under an account of the kind AI,
and whoever counts people leaves those out (`loop.holdout.ARTIFICIAL`). Imported votes hold seats,
but in closed campaigns of their own, where nobody wants one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from plumbline.collect import votes
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison
from plumbline.collect.queue import seats
from plumbline.judges import verdicts
from plumbline.judges.kind import Pair
from plumbline.judges.models import JudgeVersion

BALLOTS = uuid.UUID("5a2f4a0e-6f5c-5d0e-9d57-0f3f3f0b7c11")  # of which a ballot's key is made
EVEN = 0.05  # a probability this near to a half ranks the two alike
BATCH = 200


def open_pairs(campaign: Campaign) -> list[Comparison]:
    """What a judge may be asked of a campaign: comparisons of two answers that are asked in
    earnest and not retired."""
    found = votes.counted(campaign.comparisons.filter(retired_at=None))
    return list(found.annotate(answers=Count("slots")).filter(answers=2).order_by("pk"))


def pairs(comparisons: Iterable[Comparison]) -> Iterator[tuple[int, Pair]]:
    """By comparison of two answers, the answers by slot."""
    ids = [one.pk for one in comparisons]
    for at in range(0, len(ids), BATCH):
        slots: dict[int, list[Candidate]] = {}
        found = Candidate.objects.filter(comparison__in=ids[at : at + BATCH])
        for one in found.select_related("completion__prompt").order_by("comparison", "slot"):
            slots.setdefault(one.comparison_id, []).append(one)
        for comparison, both in slots.items():
            if [one.slot for one in both] == [0, 1]:
                yield comparison, (both[0].completion, both[1].completion)


def cast(version: JudgeVersion, comparisons: Iterable[Comparison]) -> int:
    """Ballots of what the version says of comparisons of two answers, and how many are new.

    Nothing where it has no probability, or where the campaign is closed. Cast once a version and
    comparison; another version's ballot revises the one before. Raises ValueError for a judge
    without an account.
    """
    if version.judge.account_id is None:
        raise ValueError(f"{version.judge} has no account to cast ballots with.")
    asked = dict(pairs(comparisons))
    said = verdicts.of(version, asked.values())
    new = 0
    for comparison, (one, other) in asked.items():
        p = said.get((one.pk, other.pk))
        if p is not None:
            new += vote(version, comparison, p)
    return new


def vote(version: JudgeVersion, comparison: int, p: float) -> bool:
    """One ballot: `p` is P(slot 0 beats slot 1). False where it is there or the campaign is
    closed."""
    key, account = ballot_key(version, comparison), version.judge.account_id
    assert account is not None, f"{version.judge} has no account"
    with transaction.atomic():
        locked = seats.lock_comparison(comparison)
        if locked.campaign.closed_at is not None or locked.retired_at is not None:
            return False
        before = locked.ballots.filter(annotator=account)
        if before.filter(idempotency_key=key).exists():
            return False
        last = before.order_by("-revision").first()
        now = timezone.now()
        Ballot.objects.create(
            comparison=locked,
            annotator_id=account,
            revision=last.revision + 1 if last else 1,
            revises=last,
            seat=None,
            shown=[0, 1],
            settings_version=locked.campaign.settings_version,
            claimed_at=now,
            expires_at=now + timedelta(seconds=locked.campaign.lease_seconds),
            cast_at=now,
            outcome=Ballot.Outcome.RANKED,
            ranking=ranking(p),
            probability=p,
            idempotency_key=key,
        )
    return True


def ballot_key(version: JudgeVersion, comparison: int) -> uuid.UUID:
    return uuid.uuid5(BALLOTS, f"{version.pk}:{comparison}")


def ranking(p: float) -> list[list[int]]:
    """Tie groups of the two slots, best first."""
    if abs(p - 0.5) < EVEN:
        return [[0, 1]]
    return [[0], [1]] if p > 0.5 else [[1], [0]]
