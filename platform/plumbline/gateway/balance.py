"""All engines as one: each request goes to the engine that has least to do and is well.

An engine that fails before a word has come is passed over and the request goes to another one; so
does a request for a policy that an engine does not serve yet. A policy that none of them serves is
loaded first, once for all who wait for it. An answer that has begun stays where it is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from django.conf import settings
from django.db import connections

from plumbline.gateway.engine import RETRY_AFTER, Chunks, Engine, Gone, Unanswered
from plumbline.gateway.wire import ApiError
from plumbline.policies import engines, serving

log = logging.getLogger(__name__)

T = TypeVar("T")
LOOK_SECONDS = 1.0  # between looks at each of several engines
HOPELESS_SECONDS = 5.0  # for which a policy that cannot be loaded is not tried again


class Member:
    """One engine, and what this process knows of it."""

    def __init__(self, url: str) -> None:
        self.url, self.engine = url, Engine(url)
        self.in_flight = 0  # requests of this process
        self.passed_on = 0  # requests that it failed before a word had come
        self.away = False
        self.names: frozenset[str] | None = None  # what it serves, where that was asked
        self.turn = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def failed(self, error: ApiError) -> None:
        """It has failed a request in such a way that another engine may be asked."""
        self.passed_on += 1
        self.away = self.away or isinstance(error, Gone)

    async def watch(self) -> None:
        """Look for ever whether it answers, and what it serves."""
        while True:
            self.names = frozenset(await self.engine.served())
            if self.away != (not self.names):
                log.warning("the engine at %s is %s", self.url, "back" if self.away else "away")
            self.away = not self.names  # one that is there serves its base at least
            await asyncio.sleep(LOOK_SECONDS)


class Engines:
    """As `Engine`, over all that settings.ENGINE_URL names."""

    def __init__(self) -> None:
        self.members = [Member(url) for url in engines.urls()]
        self._turns = itertools.count(1)
        self._watchers: list[asyncio.Task[None]] = []
        self._loading: dict[str, asyncio.Task[bool]] = {}
        self._hopeless: dict[str, float] = {}  # until when

    async def close(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, *self._loading.values(), return_exceptions=True)
        for member in self.members:
            await member.engine.close()

    async def served(self) -> list[str]:
        """Names that some engine serves now; none while all are away."""
        found = await asyncio.gather(*(member.engine.served() for member in self.members))
        return sorted({name for names in found for name in names})

    async def whole(self, path: str, body: Mapping[str, Any], id: str = "") -> dict[str, Any]:
        async def ask(member: Member) -> dict[str, Any]:
            with member.busy():
                return await member.engine.whole(path, body, id)

        return await self._ask(str(body["model"]), ask, {})

    async def stream(self, path: str, body: Mapping[str, Any], id: str = "") -> Chunks:
        tried: dict[Member, ApiError] = {}

        async def ask(member: Member) -> tuple[Member, Chunks]:
            with member.busy():
                return member, await member.engine.stream(path, body, id)

        async def begin() -> tuple[Member, Chunks]:
            return await self._ask(str(body["model"]), ask, tried)

        return Carried(*await begin(), begin, tried)

    async def _ask(
        self,
        name: str,
        ask: Callable[[Member], Awaitable[T]],
        tried: dict[Member, ApiError],
    ) -> T:
        """What the first engine says that says something. `tried` grows by those that failed;
        raises the last one's trouble when none is left."""
        self._watch()
        answer, lacking = await self._each(ask, tried, self._order(name, tried))
        if answer is None and lacking and await self._load(name):
            answer, _ = await self._each(ask, tried, lacking)
        if answer is not None:
            return answer
        troubles = list(tried.values())
        raise next((one for one in troubles if one.status == 404), troubles[-1])

    async def _each(
        self,
        ask: Callable[[Member], Awaitable[T]],
        tried: dict[Member, ApiError],
        order: list[Member],
    ) -> tuple[T | None, list[Member]]:
        """The first answer; where there is none, the engines that do not serve the policy."""
        lacking = []
        for member in order:
            member.turn = next(self._turns)
            try:
                value = await ask(member)
            except Unanswered as error:
                member.failed(error)
                tried[member] = error
            except ApiError as error:
                if error.body["error"]["code"] != "model_not_found":
                    raise
                tried[member] = error
                lacking.append(member)
            else:
                member.away = False
                return value, []
        return None, lacking

    def _order(self, name: str, tried: Mapping[Member, ApiError]) -> list[Member]:
        """Those not yet tried: first who is well, then who serves the policy, then who has least
        to do, then who had the last request longest ago."""

        def rank(member: Member) -> tuple[bool, bool, int, int]:
            lacks = member.names is not None and name not in member.names
            return member.away, lacks, member.in_flight, member.turn

        return sorted((one for one in self.members if one not in tried), key=rank)

    def _watch(self) -> None:
        """One engine alone is asked in any case, so nobody need look at it."""
        if len(self.members) > 1 and not self._watchers:
            self._watchers = [asyncio.create_task(member.watch()) for member in self.members]

    async def _load(self, name: str) -> bool:
        """Have a policy loaded that no engine serves; whether asking again makes sense."""
        if name == settings.BASE_NAME or time.monotonic() < self._hopeless.get(name, 0.0):
            return False
        loading = self._loading.get(name)
        if loading is None:
            loading = asyncio.create_task(asyncio.to_thread(_load_again, name))
            self._loading[name] = loading
            loading.add_done_callback(lambda done: self._loading.pop(name, None))
        try:
            return await asyncio.shield(loading)
        except (engines.EngineReloading, engines.EngineTaken):
            return False  # until an alias moves, which may be soon
        except (engines.EngineLent, engines.EngineAway) as error:
            said = "The engine is not available at the moment."
            raise ApiError(503, said, retry_after=RETRY_AFTER) from error
        except engines.EngineError as error:
            log.warning("%s was asked for and cannot be loaded: %s", name, error)
            self._hopeless[name] = time.monotonic() + HOPELESS_SECONDS
            return False


class Carried(Chunks):
    """A stream that begins anew on another engine as long as nothing of it has come."""

    def __init__(
        self,
        member: Member,
        chunks: Chunks,
        begin: Callable[[], Awaitable[tuple[Member, Chunks]]],
        tried: dict[Member, ApiError],
    ) -> None:
        self._begin, self._tried, self._begun = begin, tried, False
        self._take(member, chunks)

    def _take(self, member: Member, chunks: Chunks) -> None:
        self._member, self._chunks, self._open = member, chunks, True
        member.in_flight += 1

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._member.in_flight -= 1
        await self._chunks.close()

    @property
    def ended(self) -> bool:
        return self._chunks.ended

    async def batch(self) -> list[dict[str, Any]]:
        while True:
            try:
                found = await self._chunks.batch()
            except Unanswered as error:
                if self._begun:
                    self._member.away = self._member.away or isinstance(error, Gone)
                    raise
                self._member.failed(error)
                self._tried[self._member] = error
            else:
                self._begun = True
                return found
            await self.close()
            self._take(*await self._begin())


def _load_again(name: str) -> bool:
    """In a thread of its own, whose connection ends with it."""
    try:
        return serving.load_again(name)
    finally:
        connections.close_all()
