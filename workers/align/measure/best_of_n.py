"""What drawing n answers and keeping the best-scored one gives, and how far from the policy it is.

Everything is computed from N >= n answers that were drawn and scored once, without drawing again:
the best of a random n of them by the proxy, ties among the best shared out.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache


def weights(proxy: Sequence[float], n: int) -> list[float]:
    """P(this answer is the best of a random n by `proxy`), sums to 1.

    C(i-1, n-1) / C(N, n) for the i-th smallest; answers that the proxy cannot tell apart share
    alike. Raises ValueError unless 1 <= n <= N.
    """
    count = len(proxy)
    if not 1 <= n <= count:
        raise ValueError(f"the best of {n} needs at least {n} scored answers, not {count}")
    within = _within(count, n)
    order = sorted(range(count), key=lambda k: proxy[k])
    found = [0.0] * count
    at = 0
    while at < count:
        end = at
        while end < count and proxy[order[end]] == proxy[order[at]]:
            end += 1
        share = (within[end] - within[at]) / (end - at)
        for k in order[at:end]:
            found[k] = share
        at = end
    return found


def expected(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """Mean gold score of the best of n by proxy, without bias (arXiv:2112.09332)."""
    return sum(w * value for w, value in zip(weights(proxy, n), gold, strict=True))


def win_rate(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """How often the best of n by proxy is better by gold than one answer drawn on its own from the
    same N, a tie counting half; exactly a half at n = 1."""
    order, total = sorted(gold), 0.0
    for weight, mine in zip(weights(proxy, n), gold, strict=True):
        if weight:
            beats = (bisect_left(order, mine) + bisect_right(order, mine)) / 2
            total += weight * beats / len(order)
    return total


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n nats: what KL(best of n || policy) is for a policy that never repeats
    itself, and an upper bound otherwise, far too high where few answers are likely."""
    if n < 1:
        raise ValueError(f"the best of {n} is not defined")
    return math.log(n) - (n - 1) / n


def kl(probabilities: Sequence[float], rewards: Sequence[float], n: int) -> float:
    """KL(best of n || policy) exactly, for a policy over finitely many answers, in nats.

    P_n(y) = F(y)^n - F(y-)^n for the answers of one reward together, shared by their probability.
    """
    if not math.isclose(sum(probabilities), 1, abs_tol=1e-9):
        raise ValueError("probabilities of answers sum to 1")
    masses: dict[float, float] = {}
    for p, reward in zip(probabilities, rewards, strict=True):
        masses[reward] = masses.get(reward, 0.0) + p
    below, found = 0.0, 0.0
    for reward in sorted(masses):
        mass = masses[reward]
        chosen = (below + mass) ** n - below**n
        if chosen > 0:
            found += chosen * math.log(chosen / mass)
        below += mass
    return found


def kl_of_samples(answers: Sequence[Hashable], rewards: Sequence[float], n: int) -> float:
    """KL(best of n || policy) with the policy as its draws show it: nearer the truth than the bound
    where answers repeat. Equal answers have equal rewards."""
    known = dict(zip(answers, rewards, strict=True))
    counts = Counter(answers)
    total = len(answers)
    names = list(counts)
    shares = [counts[name] / total for name in names]
    return min(kl(shares, [known[name] for name in names], n), kl_bound(n))


@lru_cache(maxsize=64)
def _within(count: int, n: int) -> tuple[float, ...]:
    """C(k, n) / C(count, n) for k from 0 to count: how likely a random n of `count` answers are all
    among k of them."""
    total = math.comb(count, n)
    return tuple(math.comb(k, n) / total for k in range(count + 1))
