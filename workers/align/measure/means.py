"""Means of figures that pairs of one prompt share, with intervals that need no resampling.

The variance is the cluster sandwich's, whole groups being independent and nothing else; the
quantile is Student's by the number of groups. Bounds of counts are exact (Clopper and Pearson).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

from align.measure.intervals import Interval


def mean(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval | None:
    """The weighted mean with its interval; None of nothing, or of no weight.

    Of fewer than two groups the interval is the whole line: one group says nothing of others.
    """
    weighed = list(weights) if weights is not None else [1.0] * len(values)
    total = sum(weighed)
    if not total:
        return None
    value = sum(w * x for w, x in zip(weighed, values, strict=True)) / total
    named: Sequence[Hashable] = groups if groups is not None else range(len(values))
    sums: dict[Hashable, float] = {}
    for name, w, x in zip(named, weighed, values, strict=True):
        sums[name] = sums.get(name, 0.0) + w * (x - value)
    count = len(sums)
    if count < 2:
        return Interval(value, -math.inf, math.inf, count)
    variance = sum(off * off for off in sums.values()) / total**2 * count / (count - 1)
    half = quantile((1 + confidence) / 2, count - 1) * math.sqrt(variance)
    return Interval(value, value - half, value + half, count)


def quantile(share: float, freedom: int) -> float:
    """Student's quantile by Cornish and Fisher's expansion: off by less than 0.01 from 4 degrees
    of freedom on, where fewer are not asked for."""
    z = NormalDist().inv_cdf(share)
    n = max(3, freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def upper_bound(errors: float, trials: int, doubt: float = 0.05) -> float:
    """The largest error rate under which so few errors still have a chance of `doubt`; 1 of no
    trials. Half errors, which ties are, are counted up."""
    failed = math.ceil(errors - 1e-9)
    if failed >= trials:
        return 1.0
    low, high = failed / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(failed, trials, middle) > doubt else (low, middle)
    return high


def _at_most(failed: int, trials: int, rate: float) -> float:
    """P(no more than `failed` of the trials fail)."""
    if rate in (0.0, 1.0):
        return 1.0 if rate == 0.0 or failed >= trials else 0.0
    up, down = math.log(rate), math.log1p(-rate)
    total = math.lgamma(trials + 1)
    return sum(
        math.exp(
            total - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * up + (trials - k) * down
        )
        for k in range(failed + 1)
    )
