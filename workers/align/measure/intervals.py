"""Intervals of any figure by the bootstrap, whole groups resampled: votes on one prompt share it.

Percentile intervals. Differences of two models are resampled together, on the same votes, so that
what both find hard cancels.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from align.measure.pairs import Pair

RESAMPLES = 500
Item = TypeVar("Item")
Figure = Callable[[Sequence[Pair]], float | None]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, and the number of groups that it rests on."""

    value: float
    low: float
    high: float
    groups: int


def interval(pairs: Sequence[Pair], figure: Figure, resamples: int = RESAMPLES) -> Interval | None:
    """`figure` of the pairs with its interval; None where the figure is none."""
    return _resampled(_grouped(pairs), figure, resamples)


def difference(
    ours: Sequence[Pair], theirs: Sequence[Pair], figure: Figure, resamples: int = RESAMPLES
) -> Interval | None:
    """figure(ours) - figure(theirs) on the same votes, given in the same order."""
    if [(a.p, a.weight, a.group) for a in ours] != [(b.p, b.weight, b.group) for b in theirs]:
        raise ValueError("two models are compared on the same votes, in the same order")

    def gap(rows: Sequence[tuple[Pair, Pair]]) -> float | None:
        mine, yours = figure([a for a, _ in rows]), figure([b for _, b in rows])
        return None if mine is None or yours is None else mine - yours

    groups: dict[str, list[tuple[Pair, Pair]]] = {}
    for a, b in zip(ours, theirs, strict=True):
        groups.setdefault(a.group, []).append((a, b))
    return _resampled(groups, gap, resamples)


def over_groups(
    groups: Mapping[str, Sequence[Item]],
    figure: Callable[[Sequence[Sequence[Item]]], float | None],
    resamples: int = RESAMPLES,
) -> Interval | None:
    """`figure` of whole groups with its interval, for figures that look at a group as one."""
    rows = [groups[name] for name in sorted(groups)]
    value = figure(rows) if rows else None
    if value is None:
        return None
    return _percentiles(value, rows, figure, resamples)


def _grouped(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    return groups


def _resampled(
    groups: Mapping[str, Sequence[Item]],
    figure: Callable[[Sequence[Item]], float | None],
    resamples: int,
) -> Interval | None:
    def flat(rows: Sequence[Sequence[Item]]) -> float | None:
        return figure([item for row in rows for item in row])

    return over_groups(groups, flat, resamples)


def _percentiles(
    value: float,
    rows: Sequence[Sequence[Item]],
    figure: Callable[[Sequence[Sequence[Item]]], float | None],
    resamples: int,
) -> Interval:
    draw = random.Random(0)
    drawn = (figure(draw.choices(rows, k=len(rows))) for _ in range(resamples))
    found = sorted(one for one in drawn if one is not None and not math.isnan(one))
    if len(rows) < 2 or not found:
        return Interval(value, -math.inf, math.inf, len(rows))  # one group says nothing of others
    cut = int(len(found) * 0.025)
    return Interval(value, found[cut], found[-1 - cut], len(rows))
