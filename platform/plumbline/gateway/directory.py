"""Who is calling, which policy a name means, whether the engine takes requests: the database behind
a short memory.

A key that the page calls revoked is refused from then on (`keys.forgotten`); a promotion or a loan
shows before it goes on. Concurrent requests for the same answer share one query, which runs in a
thread of its own, so the event loop never waits for it. What is asked again and again is looked up
again before its time is over, while the engine works, so that hardly any request waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections, connections
from django.db.models import Q

from plumbline.accounts import keys
from plumbline.gateway import caps, limits
from plumbline.gateway.caps import Caps
from plumbline.gateway.limits import Limits
from plumbline.policies import routes, seats
from plumbline.policies.models import Deployment, Loan, Objective, Policy
from plumbline.policies.serving import SEEN_SECONDS, engine_name

FRESH = 2.0  # seconds
SOON = 0.8 * SEEN_SECONDS  # at most as old is what a promotion or a loan waits for to be seen
LARGEST = 10_000  # remembered answers; wrong keys must not fill the memory
AHEAD = 0.5  # of an answer's time, its last part: who asks then has it looked up again
ASIDE = 0.004  # seconds that a request takes to reach the engine, and look-ups ahead wait for it
T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """A key that verified, or a member on the chat page (`key` is None), and what they may ask
    for."""

    key: int | None
    project: int
    scopes: frozenset[str]
    prefix: str
    caps: Caps
    limits: Limits


@dataclass(frozen=True)
class Target:
    """The immutable policy behind a name. `deployed`: an alias needs it, so it will be loaded."""

    policy: UUID
    name: str
    engine_name: str
    deployed: bool


@dataclass(frozen=True)
class Listed:
    """A line of the list of models. `root` is the policy that an alias stands for."""

    id: str
    root: str
    created: int


class Shut(Enum):
    """Why the engine takes no requests."""

    LENT = "lent"  # its memory is lent to a job
    RELOADING = "reloading"  # it is taking up other weights


@dataclass(eq=False)
class Known:
    """An answer, perhaps still on its way, until when it holds, on the monotonic clock, and the one
    that comes after it."""

    answer: asyncio.Future[Any]
    until: float
    following: Known | None = None
    asked_again: bool = False


class Directory:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="directory")
        self._known: dict[Hashable, Known] = {}
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    async def caller(self, secret: str) -> Caller | None:
        fresh = min(FRESH, keys.REMEMBERED)
        return await self.ask(("caller", secret), lambda: _caller(secret), fresh)

    async def shut(self) -> Shut | None:
        """Why no request may go to the engine now, or soon; None where it may."""
        return await self.ask("shut", _shut, SOON)

    async def listing(self, project: int, served: Sequence[str]) -> list[Listed]:
        """Aliases, what they point at, objectives, and the project's other policies that the engine
        serves."""
        key = ("listing", project, tuple(served))
        return await self.ask(key, lambda: _listing(project, served))

    async def ask(self, key: Hashable, query: Callable[[], T], fresh: float | None = None) -> T:
        """The answer to `query`, which is remembered under `key` for `fresh` seconds."""
        # Shielded: one caller that hangs up must not take the answer from the others.
        found: T = await asyncio.shield(self._answer(key, query, FRESH if fresh is None else fresh))
        return found

    def _answer(self, key: Hashable, query: Callable[[], T], fresh: float) -> asyncio.Future[T]:
        now = time.monotonic()
        known = self._known.get(key)
        after = known.following if known is not None else None
        if known is not None and after is not None and (now >= known.until or after.answer.done()):
            known = self._known[key] = after
        if known is None or now >= known.until:
            self._make_room(now)
            known = self._known[key] = self._look_up(key, query, fresh)
        elif not known.asked_again and now >= known.until - AHEAD * fresh:
            known.asked_again = True
            loop = asyncio.get_running_loop()
            loop.call_later(ASIDE, self._look_ahead, known, key, query, fresh)
        return known.answer

    def _look_ahead(
        self, known: Known, key: Hashable, query: Callable[[], Any], fresh: float
    ) -> None:
        if not self._closed:
            known.following = self._look_up(key, query, fresh)

    def _look_up(self, key: Hashable, query: Callable[[], Any], fresh: float) -> Known:
        until = time.monotonic() + fresh
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(self._thread, _fresh_connection, query)
        found = Known(answer, until)
        answer.add_done_callback(lambda done: self._forget_failure(key, found))
        return found

    def _make_room(self, now: float) -> None:
        if len(self._known) >= LARGEST:
            self._known = {k: v for k, v in self._known.items() if v.until > now}
        if len(self._known) >= LARGEST:
            self._known.clear()

    def _forget_failure(self, key: Hashable, found: Known) -> None:
        """A database that was away is asked again by the next request."""
        if not found.answer.cancelled() and found.answer.exception() is None:
            return
        known = self._known.get(key)
        if known is found:
            del self._known[key]
        elif known is not None and known.following is found:
            known.following, known.asked_again = None, False


def _fresh_connection(query: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return query()
    finally:
        close_old_connections()


def _shut() -> Shut | None:
    if Loan.objects.exists():
        return Shut.LENT
    return Shut.RELOADING if seats.changing() else None


def _caller(secret: str) -> Caller | None:
    key = keys.verify(secret)
    if key is None:
        return None
    scopes = frozenset(key.scopes)
    return Caller(key.pk, key.project_id, scopes, key.prefix, caps.of(key), limits.of(key))


def find(project: int, name: str) -> Target | None:
    """The policy that an alias or a policy name of the project means, if there is one."""
    if "\0" in name:  # which PostgreSQL cannot be asked about
        return None
    alias = Deployment.objects.filter(project=project, alias=name).select_related("policy").first()
    policy = alias.policy if alias is not None else None
    if policy is None:
        policy = Policy.objects.filter(project=project, name=name).first()
    if policy is None:
        return None
    deployed = alias is not None or routes.needed(project).filter(pk=policy.pk).exists()
    return target(policy, deployed=deployed)


def target(policy: Policy | None, *, deployed: bool) -> Target | None:
    if policy is None or _is_foreign_base(policy):
        return None
    return Target(policy.pk, policy.name, engine_name(policy), deployed)


def _listing(project: int, served: Sequence[str]) -> list[Listed]:
    listed, policies = [], {}
    for deployment in Deployment.objects.filter(project=project).select_related("policy"):
        moved = int(deployment.updated_at.timestamp())
        listed.append(Listed(deployment.alias, deployment.policy.name, moved))
        policies[deployment.policy.name] = deployment.policy
    for one in Objective.objects.filter(project=project).select_related("policy"):
        set_at = int(one.updated_at.timestamp())
        listed.append(Listed(f"plumbline:{one.name}", one.policy.name, set_at))
    loaded = Q(name__in=served)
    if settings.BASE_NAME in served:
        loaded |= Q(weights=Policy.Weights.BASE)
    for policy in Policy.objects.filter(loaded, project=project):
        if not _is_foreign_base(policy):
            policies[policy.name] = policy
    named = sorted(policies.values(), key=lambda policy: policy.created_at)
    listed += [Listed(one.name, one.name, int(one.created_at.timestamp())) for one in named]
    return listed


def _is_foreign_base(policy: Policy) -> bool:
    """A base the engine no longer runs: its engine name would reach the one it runs now."""
    return policy.weights == Policy.Weights.BASE and policy.base_model != settings.BASE_MODEL
