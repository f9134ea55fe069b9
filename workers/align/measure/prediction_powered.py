"""A mean of what people say, from few people and a judge of everything (arXiv:2301.09633).

    theta = mean_all f + mean_lab (y - f),   var = var(f) / N + var(y - f) / n

f is the judge's word, y people's. The judge's mistakes are measured where people spoke and taken
off, so the interval is honest however bad the judge is; a good judge makes it narrower than
people's votes alone. A judge that always says the same leaves people's mean as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from align.measure.means import quantile


@dataclass(frozen=True)
class Powered:
    """`value` with its interval; `people` is the mean of their votes alone, `judge` of its own."""

    value: float
    low: float
    high: float
    people: float
    judge: float
    labelled: int
    total: int


def powered(
    said: Sequence[float],
    judged: Sequence[float],
    voted: Sequence[float],
    *,
    within: bool,
    confidence: float = 0.95,
) -> Powered:
    """said: f of all. judged, voted: f and y where people spoke, in the same order.

    within: those are among `said`, drawn at random; then f's and the correction's errors are not
    independent, which adds 2 cov(f, y - f) / N. Raises ValueError of fewer than two votes.
    """
    n, total = len(voted), len(said)
    if n < 2 or total < n or len(judged) != n:
        raise ValueError(
            "a prediction-powered mean needs two votes or more, each beside what the judge said"
        )
    off = [y - f for y, f in zip(voted, judged, strict=True)]
    value = fmean(said) + fmean(off)
    spread = variance(said) / total + variance(off) / n
    if within:
        spread += 2 * _covariance(judged, off) / total
    half = quantile((1 + confidence) / 2, n - 1) * math.sqrt(max(0.0, spread))
    return Powered(value, value - half, value + half, fmean(voted), fmean(said), n, total)


def _covariance(x: Sequence[float], y: Sequence[float]) -> float:
    a, b = fmean(x), fmean(y)
    return sum((p - a) * (q - b) for p, q in zip(x, y, strict=True)) / (len(x) - 1)
