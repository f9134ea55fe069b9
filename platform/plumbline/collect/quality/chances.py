"""Exact chances of counts, and how many of many tests may be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def at_most(k: int, n: int, rate: float) -> float:
    """P(Binomial(n, rate) <= k)."""
    if k >= n:
        return 1.0
    return min(1.0, math.fsum(math.exp(_log_binomial(i, n, rate)) for i in range(k + 1)))


def at_least_of(k: int, n: int, others: int, of: int) -> float:
    """Fisher's exact test (1935): k of n here and `others` of `of` elsewhere; the chance of k or
    more here, if both are the same."""
    right, all_ = k + others, n + of
    whole = _log_choose(all_, n)
    return min(
        1.0,
        math.fsum(
            math.exp(_log_choose(right, i) + _log_choose(all_ - right, n - i) - whole)
            for i in range(k, min(n, right) + 1)
        ),
    )


def believed(chances: Sequence[float], rate: float) -> float:
    """The largest of these chances that may be believed, so that of all that are at most a share
    `rate` is expected to be false (Benjamini and Hochberg, 1995); 0 where none may."""
    most = 0.0
    for rank, chance in enumerate(sorted(chances), start=1):
        if chance <= rate * rank / len(chances):
            most = chance
    return most


def _log_binomial(k: int, n: int, rate: float) -> float:
    return _log_choose(n, k) + k * math.log(rate) + (n - k) * math.log1p(-rate)


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
