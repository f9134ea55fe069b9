"""Logistic fits that do not change when a pair is turned around: differences in, no intercept.

    p' = sigmoid(a logit(p) + b_len dlen)          a judge's temperature and its taste for length
    logit p' = sum_m w_m logit(p_m), w_m >= 0      a mix of judges

Every input is a difference of the first answer less the second, so p'(second, first) is
1 - p'(first, second) exactly. a < 1 is a judge that is too sure of itself. b_len is what people
would add for length to what the judge says: below 0, the judge likes length more than they do, by
-b_len / a in its own log-odds. `dlen` is (l1 - l2) / (l1 + l2), between -1 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from align.measure.intervals import Interval
from align.measure.means import quantile
from align.measure.pairs import sigmoid
from align.measure.ratings import inverse

EDGE = 1e-3  # a judge that is certain is taken at 99.9 %: one mistake must not cost everything
RIDGE = 1e-3  # of the squares of coefficients: keeps them finite where nothing is ever contradicted
DOUBT = 1.0  # ridge of a mix about equal shares, in pairs: of few pairs no judge wins it all
TURNS = 200


@dataclass(frozen=True)
class Said:
    """A judge's word on a pair beside people's. Pairs of a `group` (a prompt) are not
    independent."""

    p: float  # the judge's chance that the first is better
    y: float  # share of people's votes for the first, a tie counting half
    longer: float = 0.0  # dlen
    weight: float = 1.0
    group: Hashable = ""


@dataclass(frozen=True)
class Fit:
    """`p' = sigmoid(a logit p + b_len dlen)`, with 95 % intervals where it was fitted."""

    a: float
    b_len: float
    a_interval: Interval | None = None
    b_interval: Interval | None = None

    def __call__(self, p: float, longer: float = 0.0) -> float:
        return sigmoid(self.a * logit(p) + self.b_len * longer)


PLAIN = Fit(1.0, 0.0)


def logit(p: float) -> float:
    """Log-odds, within the edges and antisymmetric to the last digit."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        kept = max(EDGE, p)
        return math.log(kept) - math.log1p(-kept)
    return -logit(1 - p)


def dlen(first: str, second: str) -> float:
    """By how much the first text is the longer one, of what both have together."""
    together = len(first) + len(second)
    return (len(first) - len(second)) / together if together else 0.0


def fit(said: Sequence[Said]) -> Fit:
    """The likeliest a >= 0 and b_len. Raises ValueError of fewer than two groups."""
    rows = [[logit(one.p), one.longer] for one in said]
    shares, weights = [one.y for one in said], [one.weight for one in said]
    groups = [one.group for one in said]
    if len(set(groups)) < 2:
        raise ValueError("a fit needs pairs of two prompts or more")
    values = solved(rows, shares, weights, ridge=RIDGE, least=[0.0, -math.inf])
    spread = sandwich(rows, shares, weights, groups, values)
    far = quantile(0.975, len(set(groups)) - 1)
    count = len(set(groups))
    a, b = (
        Interval(value, value - far * one, value + far * one, count)
        for value, one in zip(values, spread, strict=True)
    )
    return Fit(values[0], values[1], a, b)


def mix(
    chances: Sequence[Sequence[float]],
    shares: Sequence[float],
    weights: Sequence[float] | None = None,
    ridge: float = DOUBT,
) -> list[float]:
    """Weights w >= 0 of judges whose chances of each pair are given, a row a pair: the likeliest
    under a normal prior about equal shares that sum to 1."""
    if not chances:
        raise ValueError("a mix needs pairs that people voted on")
    rows = [[logit(p) for p in row] for row in chances]
    size = len(rows[0])
    return solved(
        rows,
        shares,
        weights or [1.0] * len(rows),
        ridge=ridge,
        least=[0.0] * size,
        centre=[1 / size] * size,
    )


def mixed(chances: Sequence[float], weights: Sequence[float]) -> float:
    """What the judges say together."""
    return sigmoid(sum(w * logit(p) for p, w in zip(chances, weights, strict=True)))


def solved(
    rows: Sequence[Sequence[float]],
    shares: Sequence[float],
    weights: Sequence[float],
    *,
    ridge: float,
    least: Sequence[float],
    centre: Sequence[float] | None = None,
) -> list[float]:
    """The likeliest coefficients with lower bounds, by turns: the loss is convex, and the bounds
    hold each coefficient alone, so turns end at its only minimum."""
    size = len(least)
    middle = list(centre) if centre is not None else [0.0] * size
    values = [max(low, at) for low, at in zip(least, middle, strict=True)]
    logits = [sum(v * x for v, x in zip(values, row, strict=True)) for row in rows]
    for _ in range(TURNS):
        moved = 0.0
        for k in range(size):
            slope, bend = ridge * (values[k] - middle[k]), ridge
            for row, y, w, u in zip(rows, shares, weights, logits, strict=True):
                if row[k]:
                    p = sigmoid(u)
                    slope += w * (p - y) * row[k]
                    bend += w * max(p * (1 - p), 1e-6) * row[k] ** 2
            step = max(least[k] - values[k], max(-1.0, min(1.0, -slope / bend)))
            if step:
                values[k] += step
                logits = [u + step * row[k] for u, row in zip(logits, rows, strict=True)]
            moved = max(moved, abs(step))
        if moved < 1e-9:
            break
    return values


def sandwich(
    rows: Sequence[Sequence[float]],
    shares: Sequence[float],
    weights: Sequence[float],
    groups: Sequence[Hashable],
    values: Sequence[float],
) -> list[float]:
    """Standard errors of coefficients, whole groups being independent."""
    size = len(values)
    bread = [[RIDGE * (i == k) for k in range(size)] for i in range(size)]
    scores: dict[Hashable, list[float]] = {}
    for row, y, w, group in zip(rows, shares, weights, groups, strict=True):
        p = sigmoid(sum(v * x for v, x in zip(values, row, strict=True)))
        mine = scores.setdefault(group, [0.0] * size)
        for i in range(size):
            mine[i] += w * (y - p) * row[i]
            for k in range(size):
                bread[i][k] += w * p * (1 - p) * row[i] * row[k]
    inside = inverse(bread)
    more = len(scores) / max(1, len(scores) - 1)
    found = []
    for i in range(size):
        variance = sum(
            sum(inside[i][k] * score[k] for k in range(size)) ** 2 for score in scores.values()
        )
        found.append(math.sqrt(variance * more))
    return found
