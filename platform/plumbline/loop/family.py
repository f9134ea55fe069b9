"""The family tree of a project's policies, laid out: a row a policy, the newest first.

The line from the base to the policy that is served runs in lane 0; whatever was tried beside it
gets the first lane that is free. Lanes are counted, not measured; whoever draws them does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from plumbline.policies.models import Policy

LANES = 6  # what does not fit is drawn in the last one


@dataclass(frozen=True)
class Place:
    policy: Policy
    row: int
    lane: int
    main: bool  # between the base and what is served


@dataclass(frozen=True)
class Edge:
    """From a policy to its parent, which is in a later row."""

    child: Place
    parent: Place


def lay_out(policies: Sequence[Policy], current: UUID | None) -> tuple[list[Place], list[Edge]]:
    """Places by row, and the edges between them. policies: the newest first."""
    known = {policy.pk: policy for policy in policies}
    main = _line(known, current)
    rows: dict[UUID | None, int] = {policy.pk: row for row, policy in enumerate(policies)}
    lanes: list[int] = []  # by lane above 0: the row until which it is taken
    places: dict[UUID, Place] = {}
    for row, policy in enumerate(policies):
        lane = 0
        if policy.pk not in main:
            lane = _lane(lanes, row, rows.get(policy.parent_id, row))
        places[policy.pk] = Place(policy, row, min(lane, LANES - 1), policy.pk in main)
    found = [places[policy.pk] for policy in policies]
    edges = [
        Edge(place, places[place.policy.parent_id])
        for place in found
        if place.policy.parent_id in places
    ]
    return found, edges


def _line(known: dict[UUID, Policy], current: UUID | None) -> set[UUID]:
    """A policy and all that it descends from."""
    line: set[UUID] = set()
    while current is not None and current in known and current not in line:
        line.add(current)
        current = known[current].parent_id
    return line


def _lane(lanes: list[int], row: int, ends: int) -> int:
    """The first lane above 0 that nothing runs in at this row, taken until `ends`."""
    for at, taken in enumerate(lanes):
        if taken <= row:
            lanes[at] = ends
            return at + 1
    lanes.append(ends)
    return len(lanes)
