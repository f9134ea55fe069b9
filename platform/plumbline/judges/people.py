"""What people said of the pairs that a judge said something of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from uuid import UUID

from plumbline.accounts.models import User
from plumbline.collect import queue, votes
from plumbline.collect.models import Ballot, Candidate, Comparison
from plumbline.judges.models import JudgeVersion, Verdict

BATCH = 200
ARTIFICIAL = (User.Kind.AI, User.Kind.IMPORT)


@dataclass(frozen=True)
class People:
    """`share` of the votes that prefer a verdict's first answer, a tie counting half."""

    share: float
    votes: float

    def against(self, p: float) -> bool:
        """Whether a probability names the other answer than most people do."""
        return (p - 0.5) * (self.share - 0.5) < 0


def said(found: Sequence[Verdict]) -> dict[int, People]:
    """By verdict, what people said of its two answers; nothing where nobody compared them."""
    told: dict[int, People] = {}
    for at in range(0, len(found), BATCH):
        told.update(_said(found[at : at + BATCH]))
    return told


def disagreeing(version: JudgeVersion) -> list[int]:
    """Ids of the version's verdicts that name the other answer than most people do."""
    found = list(version.verdicts.exclude(p=None).only("pk", "first_id", "second_id", "p"))
    told = said(found)
    return [
        one.pk
        for one in found
        if one.p is not None and one.pk in told and told[one.pk].against(one.p)
    ]


def _said(found: Sequence[Verdict]) -> dict[int, People]:
    wanted = {(one.first_id, one.second_id): one.pk for one in found}
    slots: dict[int, dict[int, UUID]] = defaultdict(dict)
    ids = {key for pair in wanted for key in pair}
    rows = Candidate.objects.filter(completion__in=ids).order_by()
    for comparison, slot, completion in rows.values_list("comparison", "slot", "completion"):
        slots[comparison][slot] = completion
    together = {
        comparison: both
        for comparison, both in slots.items()
        if any(_verdict(wanted, a, b) for a, b in combinations(both.values(), 2))
    }
    here = votes.counted(Comparison.objects.filter(pk__in=together))
    standing = votes.kept(queue.standing(here)).exclude(annotator__kind__in=ARTIFICIAL)
    ballots: dict[int, list[Ballot]] = defaultdict(list)
    for ballot in standing.order_by():
        ballots[ballot.comparison_id].append(ballot)
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for comparison, cast_on_it in ballots.items():
        both = together[comparison]
        for i, j, p, weight in votes.preferences(cast_on_it):
            known = _verdict(wanted, both[i], both[j]) if i in both and j in both else None
            if known is not None:
                verdict, same = known
                sums[verdict][0] += weight * (p if same else 1 - p)
                sums[verdict][1] += weight
    return {pk: People(first / total, total) for pk, (first, total) in sums.items() if total}


def _verdict(
    wanted: dict[tuple[UUID, UUID], int], one: UUID, other: UUID
) -> tuple[int, bool] | None:
    """The verdict on two answers, and whether `one` is its first."""
    if (one, other) in wanted:
        return wanted[one, other], True
    if (other, one) in wanted:
        return wanted[other, one], False
    return None
