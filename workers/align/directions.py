"""A preference as a direction: a unit vector of how much each attribute counts, and its text.

DPA (arXiv:2402.18571) writes the vector into the system line as whole numbers, times 100, so that
one policy serves every weighing and a client turns it like a dial.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence

LEAD = "Weigh your answer so:"
PART = re.compile(r"([a-z][a-z0-9_]*)=(-?\d{1,3})")


def write(v: Mapping[str, float]) -> str:
    """The system line of a direction. Raises ValueError for what has no direction."""
    unit = normalised(v)
    return f"{LEAD} {', '.join(f'{name}={round(100 * one)}' for name, one in unit.items())}"


def read(text: str) -> dict[str, float] | None:
    """The direction that a system line ends in, right to 0.005; None where it has none."""
    at = text.rfind(LEAD)
    found = PART.findall(text[at:]) if at >= 0 else []
    return {name: int(one) / 100 for name, one in found} or None


def normalised(v: Mapping[str, float]) -> dict[str, float]:
    """The vector at length one."""
    length = math.sqrt(sum(one * one for one in v.values()))
    if not (math.isfinite(length) and length > 0):
        raise ValueError("a direction needs a number other than 0")
    return {name: one / length for name, one in v.items()}


def drawn(names: Sequence[str], angle: float, seed: str) -> dict[str, float]:
    """A direction of two attributes within `angle` degrees of the first, on either side, all as
    likely: at 45 the first never counts less than 0.71."""
    first, second = names
    turn = math.radians(random.Random(seed).uniform(-angle, angle))
    return {first: math.cos(turn), second: math.sin(turn)}


def best(v: Mapping[str, float], rewards: Sequence[Mapping[str, float]]) -> int:
    """The answer of the greatest v . r, the first of equals."""
    totals = [sum(v[name] * one[name] for name in v) for one in rewards]
    return totals.index(max(totals))


def standard(values: Sequence[float]) -> list[float]:
    """Less their mean, over their standard deviation; all 0 where they do not vary."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((one - mean) ** 2 for one in values) / len(values))
    return [(one - mean) / spread if spread > 1e-12 else 0.0 for one in values]
