"""What versions of judges have said: the one place that stores verdicts and turns them around."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from plumbline.fleet.models import Job
from plumbline.judges.kind import Pair, Said
from plumbline.judges.models import JudgeVersion, Verdict

BATCH = 200  # pairs looked up at a time; databases bound what one query may name

Ids = tuple[UUID, UUID]


def in_order(one: UUID, other: UUID) -> Ids:
    """Two completions' ids as verdicts keep them, the smaller first."""
    return (one, other) if one.int < other.int else (other, one)


def chance(q_first: float, q_second: float) -> float:
    """P(first is better) out of both orders."""
    return 0.5 + (q_first - q_second) / 2  # a half exactly where the order alone decides


def agree(q_first: float, q_second: float) -> bool:
    """Whether both orders name the same answer, or both name neither."""
    side = (q_first > 0.5) - (q_first < 0.5)
    other = (q_second < 0.5) - (q_second > 0.5)
    return side == other


def probability(version: JudgeVersion, one: UUID, other: UUID) -> float | None:
    """P(`one` is better than `other`) as the version says; None where it said nothing."""
    first, second = in_order(one, other)
    p = (
        Verdict.objects.filter(version=version, first=first, second=second)
        .values_list("p", flat=True)
        .first()
    )
    return turned(p, first == one)


def of(version: JudgeVersion, pairs: Iterable[Pair]) -> dict[Ids, float | None]:
    """P(first is better) by the ids of pairs as they stand there; None where the judge could not
    say, nothing where it was not asked."""
    found = rows(version, pairs)
    return {ids: turned(row.p, row.first_id == ids[0]) for ids, row in found.items()}


def rows(version: JudgeVersion, pairs: Iterable[Pair]) -> dict[Ids, Verdict]:
    """The verdicts that are there, by the ids of pairs as they stand there."""
    wanted = [(one.pk, other.pk) for one, other in pairs]
    known: dict[Ids, Verdict] = {}
    for at in range(0, len(wanted), BATCH):
        some = wanted[at : at + BATCH]
        ids = {key for pair in some for key in pair}
        for row in Verdict.objects.filter(version=version, first__in=ids, second__in=ids):
            known[row.first_id, row.second_id] = row
    return {ids: known[key] for ids in wanted if (key := in_order(*ids)) in known}


def turned(p: float | None, same: bool) -> float | None:
    return None if p is None else p if same else 1 - p


def store(version: JudgeVersion, said: Sequence[Said], job: Job | None = None) -> int:
    """Keep what was said; how many verdicts are new. One that is there stays, unless it is empty
    and the new one is not."""
    made = [_row(version, one, job) for one in said]
    ids = {key for row in made for key in (row.first_id, row.second_id)}
    there: Mapping[Ids, Verdict] = {}
    if ids:
        found: dict[Ids, Verdict] = {}
        listed = sorted(ids)
        for at in range(0, len(listed), BATCH):
            for row in Verdict.objects.filter(version=version, first__in=listed[at : at + BATCH]):
                found[row.first_id, row.second_id] = row
        there = found
    new = [row for row in made if (row.first_id, row.second_id) not in there]
    empty = {key: row for key, row in there.items() if row.p is None}
    for row in made:
        old = empty.get((row.first_id, row.second_id))
        if old is not None and row.p is not None:
            row.pk, row.created_at = old.pk, old.created_at
            row.save(force_update=True)
    Verdict.objects.bulk_create(new, ignore_conflicts=True)
    return len(new)


def _row(version: JudgeVersion, said: Said, job: Job | None) -> Verdict:
    """A row in the table's order. A word in one order alone is no verdict."""
    first, second = in_order(said.first, said.second)
    q = (said.q_first, said.q_second)
    if said.first != first:
        q = (q[1], q[0])
    row = Verdict(
        version=version,
        first_id=first,
        second_id=second,
        detail={**said.detail, "asked_first": str(said.first)},
        tokens_in=said.tokens_in,
        tokens_out=said.tokens_out,
        error=said.error[:300],
        job=job,
    )
    if q[0] is None or q[1] is None:
        row.error = row.error or "The judge gave no verdict in one of the two orders."
    else:
        row.q_first, row.q_second = q
        row.p, row.consistent = chance(q[0], q[1]), agree(q[0], q[1])
    return row
