"""`plumbline:helpful=0.7,brief=0.3` as a model's name: objectives, and how much each counts.

Weights are shares of their sum, in steps of 0.05. One objective is its policy. Several are the
policy that averages theirs in weight space; while it is being made the client is asked to come
back, because another policy than the one asked for would be a silent lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from plumbline.gateway.directory import SOON, Directory, Target, target
from plumbline.gateway.wire import ApiError
from plumbline.loop import mixtures
from plumbline.loop.mixtures import TWENTIETHS
from plumbline.policies.models import Objective

PREFIX = "plumbline:"
MOST_WEIGHED = 4
RETRY_AFTER = 5  # seconds: an average of adapters takes a few
PART = re.compile(r"\s*([A-Za-z0-9_-]{1,40})\s*(?:=\s*([^\s,=]{1,24})\s*)?")


@dataclass(frozen=True)
class Weighed:
    """The policy, and the weights that it stands for as they are told to the client."""

    target: Target
    weights: str


async def weigh(directory: Directory, project: int, name: str) -> Weighed:
    """The policy that a weighing of objectives means. Raises ApiError."""
    shares = twentieths(parse(name))
    known = await directory.ask(("objectives", project), lambda: _objectives(project), SOON)
    if unknown := sorted(shares.keys() - known.keys()):
        there = ", ".join(sorted(known)) or "none"
        raise _bad(f"this project has no objective {unknown[0]!r}; it has: {there}")
    weights = ",".join(f"{one}={share / TWENTIETHS:g}" for one, share in sorted(shares.items()))
    parts: dict[UUID, int] = {}
    for one, share in shares.items():
        parts[known[one].policy] = parts.get(known[one].policy, 0) + share
    if len(parts) == 1:
        return Weighed(known[next(iter(shares))], weights)
    key = ("mixture", project, mixtures.recipe(parts))
    try:
        found = await directory.ask(key, lambda: _mixture(project, parts), SOON)
    except mixtures.Refused as error:
        if error.for_good:
            raise _bad(f"cannot be weighed so: {error}") from error
        raise ApiError(503, str(error), code="model_loading", retry_after=30) from error
    if found is None:
        said = f"The mixture {weights} is being made; ask again in a few seconds."
        raise ApiError(503, said, code="model_loading", retry_after=RETRY_AFTER)
    return Weighed(found, weights)


def parse(name: str) -> dict[str, float]:
    """Objectives and weights as they were written. Raises ApiError naming what is wrong."""
    weights: dict[str, float] = {}
    for part in name.removeprefix(PREFIX).split(","):
        found = PART.fullmatch(part)
        if found is None:
            raise _bad(f"{part!r} is no objective with a weight, such as helpful=0.7")
        one, given = found.groups()
        try:
            weight = 1.0 if given is None else float(given)
        except ValueError:
            raise _bad(f"the weight of {one}, {given!r}, is no number") from None
        if not math.isfinite(weight) or weight < 0:
            raise _bad(f"the weight of {one} must be a number from 0 on, not {given}")
        if one in weights:
            raise _bad(f"{one} is named twice")
        weights[one] = weight
    if len(weights) > MOST_WEIGHED:
        raise _bad(f"at most {MOST_WEIGHED} objectives can be weighed, not {len(weights)}")
    total = sum(weights.values())
    if not 0 < total < math.inf:
        raise _bad("at least one weight must be above 0, and their sum a number")
    return weights


def twentieths(weights: Mapping[str, float]) -> dict[str, int]:
    """Shares of the sum in steps of 0.05, rounded so that they add up to 1; none that is 0."""
    total = sum(weights.values())
    exact = {one: weight / total * TWENTIETHS for one, weight in weights.items()}
    shares = {one: math.floor(share) for one, share in exact.items()}
    left = TWENTIETHS - sum(shares.values())
    for one in sorted(exact, key=lambda one: (shares[one] - exact[one], one))[:left]:
        shares[one] += 1
    return {one: share for one, share in shares.items() if share}


def _objectives(project: int) -> dict[str, Target]:
    found = Objective.objects.filter(project=project).select_related("policy")
    targets = {one.name: target(one.policy, deployed=True) for one in found}
    return {name: one for name, one in targets.items() if one is not None}


def _mixture(project: int, parts: Mapping[UUID, int]) -> Target | None:
    return target(mixtures.wanted(project, parts), deployed=True)


def _bad(trouble: str) -> ApiError:
    said = f"Invalid 'model': {trouble.rstrip('.')}."
    return ApiError(400, said, param="model", code="invalid_weights")
