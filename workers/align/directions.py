"""A preference as a direction: a unit vector of how much each attribute counts, and its text.

DPA (arXiv:2402.18571) writes the vector into the system line as whole numbers, times 100, so that
one policy serves every weighing and a client turns it like a dial.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence

from align.rows import Message

LEAD = "Weigh your answer so:"
PART = re.compile(r"([a-z][a-z0-9_]*)=(-?\d{1,3})")


def write(v: Mapping[str, float]) -> str:
    """The system line of a direction. Raises ValueError for what has no direction."""
    return f"{LEAD} {parts(v)}"


def parts(v: Mapping[str, float]) -> str:
    """The unit vector as text, in the order of its attributes."""
    return ", ".join(f"{name}={round(100 * one)}" for name, one in normalised(v).items())


def put(messages: Sequence[Message], v: Mapping[str, float]) -> list[Message]:
    """A conversation with a direction as the end of its system line: what training and serving both
    write, so that a policy is asked as it was taught."""
    line, rest = write(v), list(messages)
    if rest and rest[0]["role"] == "system":
        line, rest = f"{rest[0]['content']}\n\n{line}", rest[1:]
    return [{"role": "system", "content": line}, *rest]


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
    """A direction within `angle` degrees of the first attribute, all as likely: at 45 the first
    never counts less than 0.71. Of two attributes it turns to either side; of k, what is not the
    first's points anywhere in the other k - 1."""
    draw = random.Random(seed)
    if len(names) == 2:
        turn = math.radians(draw.uniform(-angle, angle))
        return {names[0]: math.cos(turn), names[1]: math.sin(turn)}
    turn = _tilt(draw, math.radians(angle), len(names) - 2)
    aside = [draw.gauss(0, 1) for _ in names[1:]]
    length = math.sqrt(sum(one * one for one in aside))
    found = {names[0]: math.cos(turn)}
    found |= {
        name: math.sin(turn) * one / length for name, one in zip(names[1:], aside, strict=True)
    }
    return found


def _tilt(draw: random.Random, most: float, power: int) -> float:
    """An angle up to `most` whose density goes by sin to a power, as on a sphere's cap."""
    steepest = math.sin(min(most, math.pi / 2))
    while True:
        turn = draw.uniform(0, most)
        if steepest <= 0 or draw.random() <= (math.sin(turn) / steepest) ** power:
            return turn


def best(v: Mapping[str, float], rewards: Sequence[Mapping[str, float]]) -> int:
    """The answer of the greatest v . r, the first of equals."""
    totals = [sum(v[name] * one[name] for name in v) for one in rewards]
    return totals.index(max(totals))


def standard(values: Sequence[float]) -> list[float]:
    """Less their mean, over their standard deviation; all 0 where they do not vary."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((one - mean) ** 2 for one in values) / len(values))
    return [(one - mean) / spread if spread > 1e-12 else 0.0 for one in values]
