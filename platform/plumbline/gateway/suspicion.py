"""Is a policy worse than the one before, and how sure is that? Pure functions of figures.

Each look at the traffic is a test of its own, and the chance that any of them cries wolf must not
grow with their number. The k-th look may do so with probability alarm / (k (k + 1)): that sums to
`alarm` over all looks there will ever be (Bonferroni, spent over time), whatever the looks have in
common. Several guards of an alias share the same `alarm` in equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

ALARM = 0.01  # chance that any guard of an alias ever cries wolf after one move
FEW = 8  # values a side below which ranks say nothing


def level(number: int, guards: int, alarm: float = ALARM) -> float:
    """What a p-value must not exceed at the `number`-th look (1, 2, ...) of one of `guards`."""
    return alarm / guards / (number * (number + 1))


def more_often(now: int, of_now: int, before: int, of_before: int) -> float:
    """Fisher's exact test, one-sided: the probability of at least `now` events among `of_now`,
    given how many there are on both sides, if both had the same rate."""
    events, total = now + before, of_now + of_before
    most = min(events, of_now)
    if now <= 0 or not of_now or not of_before:
        return 1.0
    tail = [
        _log_choose(of_now, k) + _log_choose(of_before, events - k) for k in range(now, most + 1)
    ]
    whole = _log_choose(total, events)
    return min(1.0, math.fsum(math.exp(one - whole) for one in tail))


def larger(now: Sequence[float], before: Sequence[float]) -> float:
    """The Mann-Whitney test, one-sided: the probability of ranks at least as high as those of
    `now` if both came from one distribution. Normal approximation, corrected for ties and for
    continuity; 1 where there are fewer than `FEW` values on a side."""
    n, m = len(now), len(before)
    if min(n, m) < FEW:
        return 1.0
    ranks, ties = _ranks([*now, *before])
    over = math.fsum(ranks[:n]) - n * (n + 1) / 2
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return 1 - NormalDist().cdf((over - n * m / 2 - 0.5) / math.sqrt(variance))


def different(now: Sequence[float], before: Sequence[float]) -> float:
    """The same for a change in either direction."""
    return min(1.0, 2 * min(larger(now, before), larger(before, now)))


def _ranks(values: Sequence[float]) -> tuple[list[float], float]:
    """Ranks from 1, equal values sharing their mean; and the sum of t^3 - t over groups of ties."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, ties, at = [0.0] * len(values), 0.0, 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for place in order[at:end]:
            ranks[place] = (at + 1 + end) / 2
        ties += (end - at) ** 3 - (end - at)
        at = end
    return ranks, ties


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
