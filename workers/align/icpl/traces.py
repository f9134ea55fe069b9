"""What a program did with the pool, as its writer is told: the trace of each component from one
answer to the best of sixteen, and what each follows. Hidden accuracy never stands here.

The trace is the text loop's stand-in for a reward component's curve over training: best-of-n by the
program is the policy that it induces at n = 1, 2, 4, 8, 16 (`align.measure.best_of_n`, exact).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from align.measure import best_of_n
from align.measure.confounds import centred, kendall, pearson

POINTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Scored:
    """One answer of the pool by one program."""

    total: float
    components: Mapping[str, float]
    tokens: int


@dataclass(frozen=True)
class Shown:
    """What people said of the answers shown for one prompt: `places` by index into the pool, 0 is
    the best; answers of one place are equal."""

    prompt: str
    places: Mapping[int, int]


Pool = Mapping[str, Sequence[Scored]]  # by prompt


def picked(scores: Sequence[float]) -> int:
    """Whom best-of-n takes of the whole pool: the highest, and of several the first drawn."""
    return max(range(len(scores)), key=lambda k: scores[k])


def report(pool: Pool, shown: Sequence[Shown] = ()) -> dict[str, Any]:
    """{"components": {name: figures}, "total": figures}; a figure that nothing speaks of is None.

    trace: the mean over prompts of what the best of n by the total scores, at each of POINTS that
    the pool is large enough for; tau: Kendall's with the order people gave; length: correlation
    with tokens, and variance: the share of the total's, both within prompts; bound: the share of
    answers at its least or greatest value.
    """
    names = sorted({name for some in pool.values() for one in some for name in one.components})
    largest = min((len(some) for some in pool.values()), default=0)
    points = [n for n in POINTS if n <= largest]
    weights = {
        prompt: [best_of_n.weights([one.total for one in some], n) for n in points]
        for prompt, some in pool.items()
    }
    totals = {prompt: [one.total for one in some] for prompt, some in pool.items()}
    parts = {}
    for name in names:
        values = {
            prompt: [float(one.components.get(name, 0.0)) for one in some]
            for prompt, some in pool.items()
        }
        parts[name] = _figures(values, totals, pool, weights, points, shown)
    whole = _figures(totals, totals, pool, weights, points, shown)
    return {"points": points, "components": parts, "total": {**whole, **agreement(totals, shown)}}


def agreement(totals: Mapping[str, Sequence[float]], shown: Sequence[Shown]) -> dict[str, Any]:
    """How often, over rankings, the highest total of those shown is one that people put first, and
    the lowest one that they put last; rankings without a difference say nothing."""
    best, worst = [], []
    for one in shown:
        first, last = min(one.places.values()), max(one.places.values())
        if first == last:
            continue
        values = {k: totals[one.prompt][k] for k in one.places}
        high, low = max(values.values()), min(values.values())
        best.append(_share([k for k, v in values.items() if v == high], one.places, first))
        worst.append(_share([k for k, v in values.items() if v == low], one.places, last))
    return {
        "best_agrees": fmean(best) if best else None,
        "worst_agrees": fmean(worst) if worst else None,
        "rankings": len(best),
    }


def length_correlation(pool: Pool) -> float | None:
    """Spearman's, of the total with the tokens, ranks taken within each prompt."""
    mine: list[float] = []
    lengths: list[float] = []
    for some in pool.values():
        mine += centred(ranks([one.total for one in some]))
        lengths += centred(ranks([float(one.tokens) for one in some]))
    return pearson(mine, lengths) if mine else None


def ranks(values: Sequence[float]) -> list[float]:
    """From 0, equal values sharing the mean of their places."""
    order = sorted(range(len(values)), key=lambda k: values[k])
    found = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for k in order[at:end]:
            found[k] = (at + end - 1) / 2
        at = end
    return found


def _share(chosen: Sequence[int], places: Mapping[int, int], wanted: int) -> float:
    return fmean(float(places[k] == wanted) for k in chosen)


def _figures(
    values: Mapping[str, Sequence[float]],
    totals: Mapping[str, Sequence[float]],
    pool: Pool,
    weights: Mapping[str, Sequence[Sequence[float]]],
    points: Sequence[int],
    shown: Sequence[Shown],
) -> dict[str, Any]:
    flat = [value for some in values.values() for value in some]
    low, high = min(flat, default=0.0), max(flat, default=0.0)
    near = 1e-6 * (high - low)
    inside = [value for some in values.values() for value in centred(some)]
    all_inside = [value for some in totals.values() for value in centred(some)]
    lengths = [
        value for some in pool.values() for value in centred([float(one.tokens) for one in some])
    ]
    spread = math.fsum(value * value for value in all_inside)
    agree, scale = 0.0, 0.0
    for one in shown:
        keys = sorted(one.places)
        found = kendall(
            [values[one.prompt][k] for k in keys], [-float(one.places[k]) for k in keys]
        )
        agree, scale = agree + found[0], scale + found[1]
    return {
        "trace": [
            fmean(_expected(weights[prompt][k], some) for prompt, some in values.items())
            for k in range(len(points))
        ],
        "max": high,
        "mean": fmean(flat) if flat else 0.0,
        "min": low,
        "std": pstdev(flat) if flat else 0.0,
        "tau": agree / scale if scale else None,
        "length": pearson(inside, lengths) if inside else None,
        "variance": _dot(inside, all_inside) / spread if spread > 1e-12 else None,
        "bound": (
            fmean(float(v - low <= near or high - v <= near) for v in flat) if flat else None
        ),
    }


def _expected(weights: Sequence[float], values: Sequence[float]) -> float:
    return _dot(weights, values)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
