"""An estimate and how sure it is: a bootstrap over whole comparisons, and Wilson's interval.

The votes of one comparison are not independent, so comparisons are resampled, never votes. Every
figure here is a function of sums over comparisons; comparisons with equal terms are drawn together,
so a resample costs as much as there are different terms, not as there are comparisons.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

Terms = tuple[float, ...]  # what one comparison adds to each sum
RESAMPLES = 400
FEWEST = 5  # comparisons that an interval takes
EXACT_UP_TO = 30  # expected draws; above, a binomial count is drawn from its normal limit
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """`value` is None where the figure is undefined, `low` and `high` where there is no interval;
    `why` then says so in a sentence. `n` counts the comparisons it rests on."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str = ""

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None


def bootstrap(
    terms: Iterable[Terms],
    figure: Callable[[Sequence[float]], float | None],
    undefined: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """`figure` of the summed terms with a 95 % percentile interval; `undefined` is said where the
    figure is None. All terms have the same length."""
    counts = Counter(terms)
    n = counts.total()
    distinct, weights = list(counts), list(counts.values())
    value = figure(_sums(distinct, weights)) if n else None
    if value is None:
        return Estimate(None, n=n, why=undefined)
    if n < FEWEST:
        return Estimate(value, n=n, why=f"An interval takes {FEWEST} comparisons; there are {n}.")
    draw = random.Random(seed)
    drawn = (figure(_sums(distinct, _multinomial(weights, n, draw))) for _ in range(resamples))
    found = sorted(one for one in drawn if one is not None)
    if len(found) < resamples // 2:
        return Estimate(value, n=n, why="Too few comparisons differ to say how sure this is.")
    if found[0] == found[-1]:
        return Estimate(
            value, n=n, why="All comparisons say the same, so there is no telling how sure this is."
        )
    cut = int(len(found) * 0.025)
    return Estimate(value, found[cut], found[-1 - cut], n)


def proportion(hits: int, n: int, undefined: str) -> Estimate:
    """A share of independent yes-or-no outcomes with Wilson's (1927) 95 % interval."""
    if not n:
        return Estimate(None, why=undefined)
    rate, spread = hits / n, Z95**2 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * rate * (1 - rate) + spread**2 / 4) / (1 + spread)
    return Estimate(rate, max(0.0, centre - half), min(1.0, centre + half), n)


def _sums(distinct: Sequence[Terms], weights: Sequence[int]) -> list[float]:
    used = [(one, weight) for one, weight in zip(distinct, weights, strict=True) if weight]
    return [
        math.fsum(one[place] * weight for one, weight in used) for place in range(len(distinct[0]))
    ]


def _multinomial(weights: Sequence[int], n: int, draw: random.Random) -> list[int]:
    """How often each of the distinct terms comes up among n draws with replacement."""
    left, mass, counts = n, sum(weights), []
    for weight in weights:
        taken = _binomial(left, weight / mass, draw) if weight < mass else left
        counts.append(taken)
        left, mass = left - taken, mass - weight
    return counts


def _binomial(n: int, p: float, draw: random.Random) -> int:
    """A binomial count: by inversion where few are expected, else by the normal limit."""
    if p > 0.5:
        return n - _binomial(n, 1 - p, draw)
    if n * p > EXACT_UP_TO:
        return min(n, max(0, round(draw.gauss(n * p, math.sqrt(n * p * (1 - p))))))
    chance, odds, at, k = draw.random(), p / (1 - p), (1 - p) ** n, 0
    while chance > at and k < n:
        chance -= at
        at *= odds * (n - k) / (k + 1)
        k += 1
    return k
