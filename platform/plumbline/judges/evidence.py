"""People's votes beside a version's verdicts, a row for every pair of answers that people ranked.

Answers are named by what they are, never by the side they were shown on. Rows are data (JSON), so
what was measured can be measured again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from align.measure.antisymmetric import Said, dlen
from align.measure.concordance import Voted
from plumbline.collect import votes
from plumbline.collect.models import Ballot, Comparison, Completion
from plumbline.judges import verdicts
from plumbline.judges.models import JudgeVersion, Verdict

PAGE = 100  # comparisons read at once
FITTED = 2  # of five prompts, which fit; the other three are what figures are of
RAREST = 0.05  # a comparison that was shown more seldom weighs as one that was shown so often


@dataclass(frozen=True, kw_only=True)
class Row:
    """`first` and `second` are ids of answers. `p` is the judge's chance that the first is better,
    None where it gave no verdict; `q_first` and `q_second` are as in `Verdict`, of the answers in
    this order. `votes` are people's: 1 for the first, 0 for the second, 1/2 for a tie."""

    comparison: int
    first: str
    second: str
    votes: tuple[float, ...]
    longer: float  # dlen of the texts
    p: float | None = None
    q_first: float | None = None
    q_second: float | None = None
    weight: float = 1.0  # by how seldom such a comparison was shown
    group: str = ""  # the prompt's digest
    set: str = ""  # the prompt set's name
    heldout: bool = True  # it fitted nothing

    @property
    def y(self) -> float:
        return sum(self.votes) / len(self.votes)

    @property
    def consistent(self) -> bool:
        """Both orders name the same answer, or neither."""
        if self.q_first is None or self.q_second is None:
            return False
        return verdicts.agree(self.q_first, self.q_second)

    def said(self) -> Said:
        assert self.p is not None
        return Said(self.p, self.y, self.longer, self.weight * len(self.votes), self.group)

    def voted(self, p: float) -> Voted:
        return Voted(self.votes, p, self.weight, self.group)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(data: dict[str, Any]) -> Row:
    return Row(**{**data, "votes": tuple(data["votes"])})


def digest(ballots: Iterable[Ballot]) -> str:
    """SHA-256 of the sorted ids."""
    ids = sorted(str(ballot.pk) for ballot in ballots)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def heldout(prompt_digest: str) -> bool:
    """Whether a prompt's pairs are what figures are of, instead of being fitted; by bits of its
    digest that nothing else is decided by."""
    return int(prompt_digest[16:24], 16) % 5 >= FITTED


def rows(ballots: Iterable[Ballot]) -> Iterator[tuple[Row, Completion, Completion]]:
    """Each pair that these ballots rank, without verdicts, and its answers."""
    cast: dict[int, list[Ballot]] = {}
    for ballot in ballots:
        cast.setdefault(ballot.comparison_id, []).append(ballot)
    ids = sorted(cast)
    for start in range(0, len(ids), PAGE):
        page = (
            Comparison.objects.filter(pk__in=ids[start : start + PAGE])
            .select_related("prompt__set")
            .prefetch_related("slots__completion__prompt")
            .order_by("pk")
        )
        for comparison in page:
            yield from _of(comparison, cast[comparison.pk])


def _of(
    comparison: Comparison, ballots: list[Ballot]
) -> Iterator[tuple[Row, Completion, Completion]]:
    answers = {slot.slot: slot.completion for slot in comparison.slots.all()}
    said: dict[tuple[int, int], list[float]] = {}
    for ballot in sorted(ballots, key=lambda one: str(one.pk)):
        for i, j, p, _ in votes.preferences([ballot]):
            said.setdefault((i, j), []).append(p)
    key = comparison.prompt.digest
    for (i, j), given in sorted(said.items()):
        first, second = answers[i], answers[j]
        row = Row(
            comparison=comparison.pk,
            first=str(first.pk),
            second=str(second.pk),
            votes=tuple(given),
            longer=dlen(first.text, second.text),
            weight=1 / max(RAREST, min(1.0, comparison.p_select)),
            group=key,
            set=comparison.prompt.set.name,
            heldout=heldout(key),
        )
        yield row, first, second


def judged(version: JudgeVersion, found: Sequence[tuple[Row, Completion, Completion]]) -> list[Row]:
    """The rows with what the version said of their answers."""
    pairs = [(first, second) for _, first, second in found]
    said = verdicts.rows(version, pairs)
    return [_with(row, said.get((first.pk, second.pk))) for row, first, second in found]


def _with(row: Row, verdict: Verdict | None) -> Row:
    if verdict is None or verdict.p is None:
        return row
    p, q = verdict.p, (verdict.q_first, verdict.q_second)
    if str(verdict.first_id) != row.first:
        p, q = 1 - p, (q[1], q[0])
    return replace(row, p=p, q_first=q[0], q_second=q[1])
