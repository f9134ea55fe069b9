"""`current@quality=0.7,words=-0.7` as a model's name: a policy of DPA and the direction it gets.

The direction is written into the system line as training wrote it (`align.directions`), with every
attribute that the policy was trained on, in training's order. What no policy was trained on is
refused: a line that means nothing to it would be a silent lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from align import directions
from align.algorithms.dpa import DPA
from plumbline.gateway.errors import ApiError
from plumbline.policies.models import Policy

MARK = "@"
TRAINED_BY = "dpa"
PART = re.compile(r"\s*([a-z][a-z0-9_]{0,39})\s*=\s*([^\s,=]{1,24})\s*")
ROUNDING = 1.0  # degrees that a direction may lie beyond what was trained, as weights are rounded


@dataclass(frozen=True)
class Trained:
    """What a policy was trained on: attributes in the order in which they are written, the first
    one the score, and how many degrees a direction was turned from that at most."""

    attributes: tuple[str, ...]
    angle: float


def parse(written: str) -> dict[str, float]:
    """Attributes and weights as a client wrote them. Raises ApiError naming what is wrong."""
    found: dict[str, float] = {}
    for part in written.split(","):
        read = PART.fullmatch(part)
        if read is None:
            raise _bad(f"{part!r} is no attribute with a weight, such as quality=0.7")
        name, given = read.groups()
        try:
            weight = float(given)
        except ValueError:
            raise _bad(f"the weight of {name}, {given!r}, is no number") from None
        if not math.isfinite(weight):
            raise _bad(f"the weight of {name} must be a number, not {given}")
        if name in found:
            raise _bad(f"{name} is named twice")
        found[name] = weight
    return found


def trained(policy: UUID) -> Trained | None:
    """None of a policy that was not trained on directions."""
    row = Policy.objects.filter(pk=policy, algorithm=TRAINED_BY).first()
    if row is None:
        return None
    made = DPA.build(row.knobs)
    return Trained(tuple(made.attributes), float(made.angle))


def direction(asked: Mapping[str, float], known: Trained | None, name: str) -> dict[str, float]:
    """The unit vector that a client means, of all attributes that the policy knows. Raises
    ApiError."""
    if known is None:
        raise _bad(f"{name} was not trained on directions, so it can be given none")
    if unknown := sorted(asked.keys() - set(known.attributes)):
        there = ", ".join(known.attributes)
        raise _bad(f"{name} was not trained on {unknown[0]!r}; it knows: {there}")
    try:
        v = directions.normalised({one: asked.get(one, 0.0) for one in known.attributes})
    except ValueError as error:
        raise _bad(str(error)) from error
    turned = math.degrees(math.acos(max(-1.0, min(1.0, v[known.attributes[0]]))))
    if turned > known.angle + ROUNDING:
        raise _bad(
            f"{name} was trained on directions up to {known.angle:g} degrees from "
            f"{known.attributes[0]}; this one lies {turned:.0f} degrees from it"
        )
    return v


def turned(body: Mapping[str, Any], v: Mapping[str, float]) -> dict[str, Any]:
    """A request's body with its direction as the end of the system line. Raises ApiError for a
    request that has no conversation."""
    if "messages" not in body:
        raise _bad("a direction can be given to chat completions alone")
    return {**body, "messages": directions.put(_plain(body["messages"]), v)}


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Messages whose system line, where they begin with one, is one text."""
    if not messages or messages[0]["role"] != "system" or isinstance(messages[0]["content"], str):
        return list(messages)
    texts = "\n".join(part["text"] for part in messages[0]["content"])
    return [{**messages[0], "content": texts}, *messages[1:]]


def _bad(trouble: str) -> ApiError:
    said = f"Invalid 'model': {trouble.rstrip('.')}."
    return ApiError(400, said, param="model", code="invalid_direction")
