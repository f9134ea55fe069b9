"""Whether this gateway can serve, and what is missing where it cannot.

The engine counts as well when it has given a real token not long ago: to a client, or else to a
probe, since engines that hang go on answering their health checks.
"""

from __future__ import annotations

import asyncio
import time

from django.conf import settings
from django.db import Error as DatabaseError

from plumbline.gateway.balance import Engines
from plumbline.gateway.directory import Directory
from plumbline.gateway.limits import Limiter
from plumbline.gateway.wire import ApiError

PROBE_SECONDS = 10.0
DATABASE_SECONDS = 5.0
PROBE = {"prompt": "Hello", "max_tokens": 1}
UP, AWAY = "up", "away"


class Readiness:
    def __init__(self, engine: Engines, directory: Directory, limiter: Limiter) -> None:
        self._engine, self._directory, self._limiter = engine, directory, limiter
        self._token_at = -float("inf")  # when the engine last gave one, monotonic
        self._probing: asyncio.Task[bool] | None = None

    def token(self) -> None:
        """The engine has just given one."""
        self._token_at = time.monotonic()

    def doubt(self) -> None:
        """The engine has just failed a request: only a token of now says that it is up."""
        self._token_at = -float("inf")

    async def parts(self) -> dict[str, str]:
        """What the gateway needs and how it is. An engine that is lent, or takes up other weights,
        comes back by itself, and requests wait for it, so it is no fault."""
        database, redis = await asyncio.gather(self._database(), self._limiter.answers())
        shut = await self._directory.shut() if database else None
        engine = shut.value if shut else UP if await self._engine_up() else AWAY
        return {
            "database": UP if database else AWAY,
            "redis": UP if redis else AWAY,
            "engine": engine,
        }

    async def _engine_up(self) -> bool:
        """Whether the engine has given a token within the last seconds, or gives one now."""
        if time.monotonic() - self._token_at <= settings.READY_SECONDS:
            return True
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        return await asyncio.shield(self._probing)

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                served = await self._engine.served()
                if not served:
                    return False
                # Full weights in the base's place have a name of their own.
                name = settings.BASE_NAME if settings.BASE_NAME in served else served[0]
                reply = await self._engine.whole("/v1/completions", {**PROBE, "model": name})
        except (ApiError, TimeoutError):
            return False
        usage = reply.get("usage")
        if not isinstance(usage, dict) or not usage.get("completion_tokens"):
            return False
        self.token()
        return True

    async def _database(self) -> bool:
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                await self._directory.shut()
        except (DatabaseError, TimeoutError):
            return False
        return True
