"""Which policy answers a request: the alias's own, or for a share of its users a canary.

A user stays on one side for as long as the canary lasts, and a growing share only adds users; who
the users are is not kept, only a keyed hash decides. Requests that name no user fall by their own
id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from plumbline.gateway import ids, turning, weighing
from plumbline.gateway.directory import SOON, Directory, Target, find, target
from plumbline.policies.models import Deployment

if TYPE_CHECKING:
    from plumbline.gateway.directory import Caller
    from plumbline.gateway.wire import Asked


@dataclass(frozen=True)
class Way:
    """What a name in a request stands for. `name`: the alias; canary and shadow are of aliases.
    `weights`: of objectives, where these were asked for. `direction`: of attributes, where the
    policy is to be turned; then the alias's own policy answers and nobody in its place."""

    name: str
    target: Target
    canary: Target | None = None
    canary_share: float = 0.0
    shadow: Target | None = None
    shadow_share: float = 0.0
    shadow_keys: frozenset[int] = frozenset()
    weights: str = ""
    direction: Mapping[str, float] | None = None

    def choose(self, caller: Caller, asked: Asked, request: str) -> Target:
        """Who answers; the same for the same user, and for the same request asked again."""
        if self.canary is None or self.direction is not None:
            return self.target
        who = f"user {asked.user}" if asked.user else f"key {caller.key} request {request}"
        drawn = draw(f"canary {self.canary.policy}", caller.project, self.name, who)
        return self.canary if drawn < self.canary_share else self.target

    def shadowed(self, caller: Caller, request: str) -> bool:
        """Whether the shadow writes an answer to this request too, where its client agreed."""
        if self.direction is not None:
            return False
        if self.shadow is None or caller.key not in self.shadow_keys:
            return False
        drawn = draw(f"shadow {self.shadow.policy}", caller.project, self.name, request)
        return drawn < self.shadow_share


class Standing(NamedTuple):
    """What changes with every move of an alias."""

    since: datetime
    policy: UUID
    canary: UUID | None
    canary_share: float
    shadow: UUID | None
    shadow_share: float


MOVING = ("updated_at", "policy_id", "canary_id", "canary_share", "shadow_id", "shadow_share")


def draw(purpose: str, project: int, name: str, who: str) -> float:
    """An even draw from [0, 1), the same each time for the same words."""
    return int(ids.sign(purpose, f"{project}:{name}:{who}")[:13], 16) / 16**13


async def find_way(directory: Directory, project: int, name: str) -> Way | None:
    """What an alias, a policy's name or a weighing of objectives means in the project, if it is
    one of these. Raises ApiError for objectives that cannot be weighed so, or not yet."""
    if name.startswith(weighing.PREFIX):
        found = await weighing.weigh(directory, project, name)
        return Way(name, found.target, weights=found.weights)
    plain, mark, written = name.partition(turning.MARK)
    if mark and (way := await find_way(directory, project, plain)) is not None:
        policy = way.target.policy
        known = await directory.ask(("trained", policy), lambda: turning.trained(policy))
        return replace(
            way, direction=turning.direction(turning.parse(written), known, way.target.name)
        )
    # Looking whether an alias has moved costs a tenth of reading what it stands for, and busy
    # gateways look a dozen times a second.
    stands = await directory.ask(("alias", project, name), lambda: _stands(project, name), SOON)
    fresh = SOON if stands is None or stands.shadow else None  # a shadow's keys are no part of it
    return await directory.ask(("way", project, name, stands), lambda: _way(project, name), fresh)


def _stands(project: int, name: str) -> Standing | None:
    if "\0" in name:  # which PostgreSQL cannot be asked about
        return None
    row = Deployment.objects.filter(project=project, alias=name).values_list(*MOVING)
    return next((Standing(*found) for found in row), None)


def _way(project: int, name: str) -> Way | None:
    found = find(project, name)
    if found is None:
        return None
    here = Deployment.objects.filter(project=project, alias=name)
    deployment = here.select_related("policy", "canary", "shadow").first()
    if deployment is None:
        return Way(name, found)
    canary = target(deployment.canary, deployed=True)
    shadow = target(deployment.shadow, deployed=True)
    keys = deployment.shadow_keys.values_list("pk", flat=True) if shadow else ()
    return Way(
        name,
        found,
        canary,
        deployment.canary_share,
        shadow,
        deployment.shadow_share,
        frozenset(keys),
    )
