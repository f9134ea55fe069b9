"""A judge in the raters' place: it is asked about every pair of a prompt's cards, and the order
that its probabilities give is cast as a ballot of its own account, never as a person's."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Completion
from plumbline.evolve import work
from plumbline.evolve.models import Generation
from plumbline.judges import asking, verdicts
from plumbline.judges.models import JudgeVersion
from plumbline.loop import roundjobs

TIE = 0.02  # answers whose mean probabilities differ by less share a place


def ranked(generation: Generation, campaign: Campaign, rater: JudgeVersion) -> bool:
    """Whether the judge's ballots are cast; asks it first. A comparison on which it has no verdict
    is skipped, which says so. Raises ValueError where its job failed."""
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


def order(
    answers: Sequence[uuid.UUID], said: Mapping[tuple[uuid.UUID, uuid.UUID], float | None]
) -> list[list[int]] | None:
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


def _cast(campaign: Campaign, rater: JudgeVersion, said: Mapping[Any, float | None]) -> None:
    """A ballot on every comparison that lacks the judge's; what is cast twice is stored once."""
    account = rater.judge.account
    assert account is not None
    while (ballot := queue.claim_next(account, campaign)) is not None:
        slots = list(ballot.comparison.slots.order_by("slot"))
        found = order([slot.completion_id for slot in slots], said)
        if found is None:
            queue.skip(ballot, "The judge could not tell.", uuid.uuid5(ballot.pk, "skip"))
            continue
        ranking = [sorted(slots[k].slot for k in group) for group in found]
        verdict = queue.Verdict(Ballot.Outcome.RANKED, ranking=ranking)
        queue.cast(ballot, verdict, uuid.uuid5(ballot.pk, "judge"))


def _answers(comparison: Any) -> list[Completion]:
    found = comparison.slots.select_related("completion__prompt").order_by("slot")
    return [slot.completion for slot in found]
