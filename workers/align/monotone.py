"""A logistic model of differences whose weights may be held to one side of zero.

    P(first is better) = sigmoid(sum_k w_k (z_k(first) - z_k(second)) / s_k)

There is no intercept, so naming the answers in the other order gives 1 - p exactly; s_k is the root
mean square of a factor's differences, so that weights compare. A weight whose factor is declared to
help is never negative: the score is monotone in it. The penalised log-loss is convex, and found by
coordinate descent with Newton steps, in plain Python: factors are a handful.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 200
CLOSE = 1e-7


@dataclass(frozen=True)
class Compared:
    """Two answers by their factors, P(the first is better), and how many votes say so."""

    first: Mapping[str, float]
    second: Mapping[str, float]
    p: float
    weight: float = 1.0
    prompt: str = ""


@dataclass(frozen=True)
class Fitted:
    """weights: by factor, for differences over `scales`. intervals: 95 %, resampling prompts."""

    weights: Mapping[str, float]
    scales: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


def score(
    weights: Mapping[str, float], scales: Mapping[str, float], z: Mapping[str, float]
) -> float:
    """An answer's reward; differences are log-odds."""
    return sum(weight * z[name] / scales[name] for name, weight in weights.items())


def fit(
    rows: Sequence[Compared],
    signs: Mapping[str, int],
    ridge: float = 1.0,
    resamples: int = 0,
    seed: int = 0,
) -> Fitted:
    """The weights of the factors in `signs`. Raises ValueError without rows or factors, and for a
    sign that is none."""
    if not rows:
        raise ValueError("There are no votes to fit weights to.")
    if not signs:
        raise ValueError("There is no factor to weigh.")
    for name, sign in signs.items():
        if sign not in (-1, 0, 1):
            raise ValueError(f"The sign of {name} is -1, 0 or 1, not {sign}.")
    names = list(signs)
    x = [[row.first[name] - row.second[name] for name in names] for row in rows]
    total = sum(row.weight for row in rows)
    scales = []
    for k in range(len(names)):
        square = sum(row.weight * one[k] ** 2 for row, one in zip(rows, x, strict=True)) / total
        scales.append(math.sqrt(square) or 1.0)
    x = [[value / scale for value, scale in zip(one, scales, strict=True)] for one in x]
    p, weight = [row.p for row in rows], [row.weight for row in rows]
    bounds = [signs[name] for name in names]
    found = _descend(x, p, weight, bounds, ridge, [0.0] * len(names))
    drawn = _resampled(rows, x, bounds, ridge, found, resamples, seed)
    return Fitted(
        dict(zip(names, found, strict=True)),
        dict(zip(names, scales, strict=True)),
        {name: _ends([one[k] for one in drawn]) for k, name in enumerate(names)} if drawn else {},
    )


def _resampled(
    rows: Sequence[Compared],
    x: Sequence[Sequence[float]],
    bounds: Sequence[int],
    ridge: float,
    start: Sequence[float],
    resamples: int,
    seed: int,
) -> list[list[float]]:
    groups: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(row.prompt, []).append(at)
    prompts, draw = sorted(groups), random.Random(seed)
    found = []
    for _ in range(resamples):
        weight = [0.0] * len(rows)
        for prompt in draw.choices(prompts, k=len(prompts)):
            for at in groups[prompt]:
                weight[at] += rows[at].weight
        used = [at for at in range(len(rows)) if weight[at]]
        found.append(
            _descend(
                [x[at] for at in used],
                [rows[at].p for at in used],
                [weight[at] for at in used],
                bounds,
                ridge,
                start,
            )
        )
    return found


def _descend(
    x: Sequence[Sequence[float]],
    p: Sequence[float],
    weight: Sequence[float],
    bounds: Sequence[int],
    ridge: float,
    start: Sequence[float],
) -> list[float]:
    """argmin_a sum_r weight_r BCE(sigmoid(x_r . a), p_r) + ridge a.a / 2, a_k on its side."""
    a = list(start)
    ahead = [sum(v * w for v, w in zip(row, a, strict=True)) for row in x]
    for _ in range(SWEEPS):
        moved = 0.0
        for k, side in enumerate(bounds):
            slope, bend = ridge * a[k], ridge
            for row, mean, count, now in zip(x, p, weight, ahead, strict=True):
                chance = sigmoid(now)
                slope += count * (chance - mean) * row[k]
                # Where all is certain the curve is flat, and a step by it would overshoot.
                bend += count * max(chance * (1 - chance), 0.05) * row[k] ** 2
            to = a[k] - slope / bend
            to = max(0.0, to) if side > 0 else min(0.0, to) if side < 0 else to
            step = to - a[k]
            if step:
                a[k] = to
                ahead = [now + step * row[k] for row, now in zip(x, ahead, strict=True)]
            moved = max(moved, abs(step))
        if moved < CLOSE:
            break
    return a


def _ends(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = int(len(ordered) * 0.025)
    return ordered[cut], ordered[-1 - cut]


def sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2
