"""A judge in the raters' place: it is asked about every pair of a prompt's cards, and the order
that its probabilities give is cast as a ballot of its own account, never as a person's."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import combinations

from django.db import transaction
from django.utils import timezone

from plumbline.collect.models import Ballot, Campaign, Comparison, Completion
from plumbline.collect.queue import seats
from plumbline.evolve import work
from plumbline.evolve.models import Generation
from plumbline.judges import asking, casting, verdicts
from plumbline.judges.models import JudgeVersion
from plumbline.loop import roundjobs

Said = Mapping[tuple[uuid.UUID, uuid.UUID], float | None]  # P(the first is better)
TIE = 0.02  # answers whose mean probabilities differ by less share a place


def ranked(generation: Generation, campaign: Campaign, rater: JudgeVersion) -> bool:
    """Whether the judge's ballots are cast; asks it first. A comparison on which it has no verdict
    gets none. Raises ValueError where its job failed."""
    pairs = [
        pair
        for comparison in campaign.comparisons.order_by("pk")
        for pair in combinations(_answers(comparison), 2)
    ]
    evolution, purpose = generation.evolution, f"judge:{campaign.pk}:{len(pairs)}"
    name = f"g{generation.number}:{purpose}"
    asked = evolution.jobs.filter(purpose=name).select_related("job").first()
    if asked is None:
        job = asking.ask(rater, pairs, f"{generation}: rank", campaign=campaign)
        if job is not None:
            work.keep(evolution, generation, purpose, job)
            return False
    else:
        if roundjobs.finished(asked.job) is None:
            return False
        asking.gather(rater, asked.job)
    _cast(campaign, rater, verdicts.of(rater, pairs))
    return True


def order(answers: Sequence[uuid.UUID], said: Said) -> list[list[int]] | None:
    """Groups of places in `answers`, best first, by the mean probability of being the better one;
    None where the judge could not say of some pair."""
    mean = [0.0] * len(answers)
    for i, j in combinations(range(len(answers)), 2):
        p = said.get((answers[i], answers[j]))
        if p is None:
            return None
        mean[i] += p / (len(answers) - 1)
        mean[j] += (1 - p) / (len(answers) - 1)
    groups: list[list[int]] = []
    for k in sorted(range(len(answers)), key=lambda k: -mean[k]):
        if groups and mean[groups[-1][0]] - mean[k] < TIE:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def _cast(campaign: Campaign, rater: JudgeVersion, said: Said) -> None:
    """A ballot on every comparison that lacks the judge's, as `judges.casting` casts those on two
    answers; where the judge could not tell, none."""
    for comparison in campaign.comparisons.order_by("pk"):
        answers = [one.pk for one in _answers(comparison)]
        found = order(answers, said)
        if found is None:
            continue
        if len(answers) == 2:
            p = said[answers[0], answers[1]]
            assert p is not None
            casting.vote(rater, comparison.pk, p)
        else:
            _vote(rater, comparison.pk, found, said[answers[0], answers[1]])


def _vote(rater: JudgeVersion, comparison: int, ranking: list[list[int]], p: float | None) -> None:
    """One ballot on three answers or more. It holds no seat, as no judge's does; `p`, P(the first
    beats the second), is what tells it from a person's wherever kinds of voters are told apart."""
    key, account = casting.ballot_key(rater, comparison), rater.judge.account
    assert account is not None, f"{rater.judge} has no account"
    with transaction.atomic():
        locked = seats.lock_comparison(comparison)
        before = locked.ballots.filter(annotator=account)
        if locked.campaign.closed_at is not None or before.filter(idempotency_key=key).exists():
            return
        last = before.order_by("-revision").first()
        now = timezone.now()
        Ballot.objects.create(
            comparison=locked,
            annotator=account,
            revision=last.revision + 1 if last else 1,
            revises=last,
            shown=sorted(slot for group in ranking for slot in group),
            settings_version=locked.campaign.settings_version,
            claimed_at=now,
            expires_at=now + timedelta(seconds=locked.campaign.lease_seconds),
            cast_at=now,
            outcome=Ballot.Outcome.RANKED,
            ranking=[sorted(group) for group in ranking],
            probability=p,
            idempotency_key=key,
        )


def _answers(comparison: Comparison) -> list[Completion]:
    found = comparison.slots.select_related("completion__prompt").order_by("slot")
    return [slot.completion for slot in found]
