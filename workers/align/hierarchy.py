"""A hierarchy of factors compares two answers: the most important factor that differs decides.

After HERON (arXiv:2309.02632): at level l, with factor z, sign s and margin d = c * sd(z) on a
buffer of answers, a is better where s (z(a) - z(b)) > d, b where it is below -d, and otherwise the
next level is asked. What no level decides has no verdict, and the pair is dropped. With margins the
relation is antisymmetric and need not be transitive: a may beat b and b beat c while c beats a.
Nothing here, nor what learns from it, may count on an order.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MOST_LEVELS = 20

Values = Mapping[str, float | None]  # an answer's, by factor; None where it has none


@dataclass(frozen=True, kw_only=True)
class Level:
    """`margin` is c, in standard deviations of the factor; `sign` is 1 where more is better."""

    factor: str
    sign: int = 1
    margin: float = 1.0


@dataclass(frozen=True)
class Decision:
    """`ahead` is 1 for the first answer, -1 for the second, 0 where no level decided; `level`
    counts from 0; `difference` is the second's value taken from the first's there."""

    ahead: int
    level: int | None = None
    difference: float | None = None


def check(levels: Sequence[Level]) -> None:
    """Raises ValueError with a sentence about the first level that cannot work."""
    if not levels:
        raise ValueError("A hierarchy needs at least one factor.")
    if len(levels) > MOST_LEVELS:
        raise ValueError(f"A hierarchy has {MOST_LEVELS} levels at most, not {len(levels)}.")
    names = [one.factor for one in levels]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there twice; a second time it would decide nothing.")
    for one in levels:
        if one.sign not in (-1, 1):
            raise ValueError(f"The sign of {one.factor} is 1 or -1, not {one.sign}.")
        if not (math.isfinite(one.margin) and one.margin >= 0):
            raise ValueError(f"The margin of {one.factor} must be 0 or more, not {one.margin}.")


def deltas(levels: Sequence[Level], buffer: Sequence[Values]) -> list[float]:
    """The margin of each level in its factor's own unit, from answers measured before.

    Raises ValueError for a level with a margin whose factor fewer than two answers have: there is
    no spread to measure it by.
    """
    found = []
    for one in levels:
        told = [value for row in buffer if (value := row.get(one.factor)) is not None]
        if not one.margin:
            found.append(0.0)
        elif len(told) < 2:
            raise ValueError(
                f"{one.factor} is known of {len(told)} answers; a margin in standard deviations "
                "needs two or more. Set the margin to 0, or measure it first."
            )
        else:
            found.append(one.margin * statistics.stdev(told))
    return found


def decide(
    levels: Sequence[Level], margins: Sequence[float], first: Values, second: Values
) -> Decision:
    """Which answer is better, and which level says so. A level whose factor one of the two answers
    lacks decides nothing. `margins` are of `deltas`."""
    for at, (one, delta) in enumerate(zip(levels, margins, strict=True)):
        a, b = first.get(one.factor), second.get(one.factor)
        if a is None or b is None:
            continue
        difference = a - b
        if one.sign * difference > delta:
            return Decision(1, at, difference)
        if one.sign * difference < -delta:
            return Decision(-1, at, difference)
    return Decision(0)


def to_json(levels: Sequence[Level]) -> list[dict[str, Any]]:
    return [asdict(one) for one in levels]


def from_json(rows: Sequence[Mapping[str, Any]]) -> list[Level]:
    return [Level(**row) for row in rows]
