"""How sure the bench is: means over seeds with intervals that respect seeds.

A seed is one run of the world: its labellers' slips, its samples, its training. Answers within a
seed share all of that, so seeds are the sample and answers are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

# Student's t at 97.5 % by degrees of freedom; the normal quantile beyond.
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Interval:
    mean: float
    low: float
    high: float


def across_seeds(values: Sequence[float]) -> Interval:
    """Mean and 95 % t-interval of one figure a seed; a single seed has no interval of its own."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    freedom = len(values) - 1
    t = T975[freedom - 1] if freedom <= len(T975) else 1.96
    half = t * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def share(outcomes: Sequence[float]) -> Interval:
    """Mean of independent outcomes in [0, 1] with a normal 95 % interval."""
    mean = fmean(outcomes)
    half = 1.96 * stdev(outcomes) / math.sqrt(len(outcomes)) if len(outcomes) > 1 else math.nan
    return Interval(mean, mean - half, mean + half)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Ours less theirs, seed by seed: both faced the same people, so the seed's luck cancels."""
    return across_seeds([a - b for a, b in zip(ours, theirs, strict=True)])


def win_rate(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """P(a > b) + P(a = b) / 2 over all pairs of two samples of utilities."""
    won = sum(0.5 if abs(a - b) < 1e-9 else float(a > b) for a in mine for b in theirs)
    return won / (len(mine) * len(theirs))


def duality_gap(shares: Sequence[float], matrix: Sequence[Sequence[float]]) -> float:
    """2 * (max_y P(y > pi) - 1/2) of a mixed strategy in a symmetric game with P as `matrix`.

    Zero only for a Nash policy; 1 when something beats it for certain (algorithms.md 3.6).
    """
    best = max(sum(p * row[k] for k, p in enumerate(shares)) for row in matrix)
    return 2 * (best - 0.5)
