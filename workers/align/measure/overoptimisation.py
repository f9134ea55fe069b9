"""How far a proxy can be followed before the gold reward falls: curves over d = sqrt(KL).

    best of n:  R(d) = d (a - b d)        at its highest at d* = a / (2 b)
    training:   R(d) = d (a - b log d)    at its highest at d* = exp(a / b - 1)

(arXiv:2210.10760). R is the gain over the start. Both are linear in (a, b), so weighted least
squares solves them exactly; b is not let below 0. Where the points do not show a peak, none is
claimed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

Form = Literal["best_of_n", "training"]
NEAREST = 0.1  # points closer to the start than this carry no shape
POINTS = 6
RESAMPLES = 300


@dataclass(frozen=True)
class Fit:
    """`why` says what is missing where the peak is not identified."""

    a: float
    b: float
    peak: float  # d*; infinite where b is 0
    low: float  # 95 % interval of d*
    high: float
    identified: bool
    why: str = ""


def gain(form: Form, a: float, b: float, d: float) -> float:
    """R(d)."""
    return d * (a - b * (d if form == "best_of_n" else math.log(d))) if d > 0 else 0.0


def fit(form: Form, d: Sequence[float], by_prompt: Sequence[Sequence[float]]) -> Fit:
    """The curve through the mean gains at each d, prompts (rows of `by_prompt`) resampled for the
    interval. Raises ValueError where nothing can be fitted at all."""
    if not by_prompt or any(len(row) != len(d) for row in by_prompt):
        raise ValueError("every prompt needs one gain at each distance")
    kept = [k for k, value in enumerate(d) if value >= NEAREST]
    if len(kept) < 2:
        raise ValueError(f"a curve needs two points at a distance of {NEAREST} or more")
    distances = [d[k] for k in kept]
    rows = [[row[k] for k in kept] for row in by_prompt]
    errors = [_error([row[k] for row in rows]) for k in range(len(kept))]

    def solved(chosen: Sequence[Sequence[float]]) -> tuple[float, float]:
        means = [fmean(row[k] for row in chosen) for k in range(len(kept))]
        return solve(form, distances, means, errors)

    a, b = solved(rows)
    draw = random.Random(0)
    peaks = sorted(peak(form, *solved(draw.choices(rows, k=len(rows)))) for _ in range(RESAMPLES))
    cut = int(RESAMPLES * 0.025)
    low, high = (peaks[cut], peaks[-1 - cut]) if len(rows) > 1 else (0.0, math.inf)
    at = peak(form, a, b)
    why = _doubt(distances, at, high)
    return Fit(a, b, at, low, high, not why, why)


def fit_means(
    form: Form, d: Sequence[float], gains: Sequence[float], errors: Sequence[float]
) -> Fit:
    """The same through mean gains of which only the standard errors are known, as of win rates by
    different voters: the peak's interval is of gains drawn anew by their errors."""
    kept = [k for k, value in enumerate(d) if value >= NEAREST]
    if len(kept) < 2:
        raise ValueError(f"a curve needs two points at a distance of {NEAREST} or more")
    distances, means, spread = ([list(row)[k] for k in kept] for row in (d, gains, errors))
    a, b = solve(form, distances, means, spread)
    draw = random.Random(0)
    peaks = sorted(
        peak(
            form,
            *solve(
                form,
                distances,
                [draw.gauss(mean, error) for mean, error in zip(means, spread, strict=True)],
                spread,
            ),
        )
        for _ in range(RESAMPLES)
    )
    cut = int(RESAMPLES * 0.025)
    at = peak(form, a, b)
    why = _doubt(distances, at, peaks[-1 - cut])
    return Fit(a, b, at, peaks[cut], peaks[-1 - cut], not why, why)


def solve(
    form: Form, d: Sequence[float], gains: Sequence[float], errors: Sequence[float]
) -> tuple[float, float]:
    """(a, b) of least squares weighted by 1 / error^2, with b >= 0."""
    weights = [1 / max(error, 1e-9) ** 2 for error in errors]
    u = list(d)
    v = [-x * (x if form == "best_of_n" else math.log(x)) for x in d]
    uu, uv, vv, uy, vy = (
        sum(w * p * q for w, p, q in zip(weights, first, second, strict=True))
        for first, second in ((u, u), (u, v), (v, v), (u, gains), (v, gains))
    )
    determinant = uu * vv - uv * uv
    if determinant > 1e-12 * uu * vv:
        a, b = (uy * vv - vy * uv) / determinant, (vy * uu - uy * uv) / determinant
        if b > 0:
            return a, b
    return uy / uu, 0.0


def peak(form: Form, a: float, b: float) -> float:
    """Where the gain is highest: 0 where every step loses, infinite where every step wins."""
    if b <= 0:
        return math.inf if a > 0 else 0.0
    if form == "best_of_n":
        return max(0.0, a / (2 * b))
    return math.exp(min(a / b - 1, 700.0))


def _error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 1.0


def _doubt(d: Sequence[float], at: float, high: float) -> str:
    if len(d) < POINTS:
        return f"not identified: {len(d)} points, and a peak needs {POINTS}"
    if at > max(d):
        return "not identified: the gold reward still rises at the largest distance"
    if not math.isfinite(high):
        return "not identified: resampled prompts put the peak anywhere up to infinity"
    return ""
