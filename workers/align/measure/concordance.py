"""How often a judge says what people say, beside how often people say what people say.

A vote is 1 for the first answer, 0 for the second, 1/2 for a tie, the answers being named by what
they are and never by the side they were shown on. Two agree by 1 when they say the same, by 1/2
when one of them alone calls it a tie, else by 0. A judge is measured like one more person: against
the majority of the votes but one, for each vote that is left out, as that person is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from align.measure.intervals import Interval
from align.measure.means import mean
from align.measure.pairs import sign


@dataclass(frozen=True)
class Voted:
    """The votes on one pair and the judge's chance that the first is better."""

    votes: tuple[float, ...]
    p: float
    weight: float = 1.0
    group: Hashable = ""


@dataclass(frozen=True)
class Concordance:
    """`judge` against the majority of everybody; `judge_beside` and `people` against the same
    majorities of all votes but one, on pairs with two votes or more, `pairs` in number: None where
    there are none."""

    judge: Interval | None
    judge_beside: Interval | None
    people: Interval | None
    pairs: int


def agreed(one: float, other: float) -> float:
    """1, 1/2 or 0, by the sides that two chances or votes take."""
    return 1 - abs(sign(round(one - 0.5, 9)) - sign(round(other - 0.5, 9))) / 2


def majority(votes: Sequence[float]) -> float:
    """1, 0, or 1/2 where as many votes are on either side."""
    return (1 + sign(sum(vote - 0.5 for vote in votes))) / 2


def concordance(pairs: Sequence[Voted]) -> Concordance:
    several = [one for one in pairs if len(one.votes) > 1]
    rows = [
        (agreed(one.p, rest), agreed(vote, rest), one.weight / len(one.votes), one.group)
        for one in several
        for vote, rest in _left_out(one.votes)
    ]
    weights, groups = [row[2] for row in rows], [row[3] for row in rows]
    return Concordance(
        judge=mean(
            [agreed(one.p, majority(one.votes)) for one in pairs],
            [one.weight for one in pairs],
            [one.group for one in pairs],
        ),
        judge_beside=mean([row[0] for row in rows], weights, groups),
        people=mean([row[1] for row in rows], weights, groups),
        pairs=len(several),
    )


def _left_out(votes: Sequence[float]) -> list[tuple[float, float]]:
    """Each vote with the majority of the others."""
    return [(vote, majority([*votes[:at], *votes[at + 1 :]])) for at, vote in enumerate(votes)]
