"""Shadow answers: what another policy would have said, written after the client has its answer.

Only for requests whose client asked to store the texts and says that its user agreed to learning
from them, by a key that the alias's shadow may see. Nobody waits for a shadow: under load, and
while the engine is lent, it is dropped. With the answer that the client got it makes a pair that
people may compare blind (`review`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import Error as DatabaseError
from starlette.types import ASGIApp, Receive, Scope, Send

from plumbline.gateway import ids
from plumbline.gateway.balance import Engines
from plumbline.gateway.directory import Target
from plumbline.gateway.gate import Gate
from plumbline.gateway.journal import Journal
from plumbline.gateway.metrics import Metrics
from plumbline.gateway.models import Exchange
from plumbline.gateway.storing import Store, Texts
from plumbline.gateway.wire import ApiError

if TYPE_CHECKING:
    from plumbline.gateway.served import Served

log = logging.getLogger(__name__)

PATH = "/v1/chat/completions"
AT_ONCE = 2  # of this process
MOST_WAITING = 64
MOST_BUSY = 8  # requests of clients under way, beyond which shadows are dropped
ANSWERED, DROPPED, FAILED = "answered", "dropped", "failed"
# Of a request's body; the rest is about how a client wants its answer told.
KEPT = {
    *("messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
    *("presence_penalty", "frequency_penalty"),
}


@dataclass(frozen=True)
class Wanted:
    served: Served
    target: Target


class Load:
    """Counts the requests that clients have under way, streams to their last byte."""

    def __init__(self) -> None:
        self.busy = 0


class UnderWay:
    """Middleware that keeps a `Load`'s count."""

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self._app, self._load = app, load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._load.busy += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._load.busy -= 1


class Shadows:
    """One per process."""

    def __init__(
        self, engine: Engines, gate: Gate, journal: Journal, store: Store, metrics: Metrics
    ) -> None:
        self._engine, self._gate = engine, gate
        self._journal, self._store, self._metrics = journal, store, metrics
        self._line: asyncio.Queue[Wanted] = asyncio.Queue(MOST_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self.load = Load()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work_forever()) for _ in range(AT_ONCE)]

    async def close(self) -> None:
        """Give up what waits and what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def offer(self, served: Served) -> None:
        """Have an answered request shadowed, where that is wanted and allowed. Waits for nothing;
        a coroutine so that it can follow a response in the event loop."""
        target = wanted(served)
        if target is None:
            return
        try:
            self._line.put_nowait(Wanted(served, target))
        except asyncio.QueueFull:
            self._metrics.shadowed(served.caller.project, target.name, DROPPED)

    async def _work_forever(self) -> None:
        while True:
            one = await self._line.get()
            try:
                outcome = await self._shadow(one)
            except (ApiError, TimeoutError, DatabaseError) as error:
                log.warning("no shadow answer by %s: %s", one.target.name, error)
                outcome = FAILED
            except Exception:  # the next one may do better
                log.exception("no shadow answer by %s", one.target.name)
                outcome = FAILED
            self._metrics.shadowed(one.served.caller.project, one.target.name, outcome)

    async def _shadow(self, one: Wanted) -> str:
        if self.load.busy > MOST_BUSY or await self._gate.shut():
            return DROPPED
        served, target, began = one.served, one.target, time.perf_counter()
        request = uuid.uuid4().hex
        name = ids.completion("chatcmpl", request, served.caller.project)
        asked = {key: value for key, value in served.asked.body.items() if key in KEPT}
        body = {**asked, "model": target.engine_name, "n": 1, "stream": False}
        async with asyncio.timeout(settings.ENGINE_WAIT_SECONDS):
            answer = await self._engine.whole(PATH, body, request)
        usage = answer.get("usage") or {}
        self._journal.add(_exchange(one, name, usage, time.perf_counter() - began))
        texts = Texts()
        texts.take(answer)
        written = texts.answers()
        if written and written[0]["text"].strip() != _said(served):
            self._store.add_shadow(served, target, name, written)
        return ANSWERED


def wanted(served: Served) -> Target | None:
    """The shadow of a chat completion that ended well, with consent, by a key it may see. None
    where tools might be called: nobody would answer the shadow's calls."""
    stored, way, body = served.asked.stored, served.way, served.asked.body
    if "messages" not in body or "tools" in body:
        return None
    if way is None or stored is None or not stored.consent_train or served.status != 200:
        return None
    if not settings.KEEP_TEXTS_DAYS or not _said(served):
        return None
    if not way.shadowed(served.caller, ids.request(served.id)):
        return None
    shadow = way.shadow
    return None if shadow is None or shadow.policy == served.target.policy else shadow


def _said(served: Served) -> str:
    """The first answer that the client got."""
    answers = served.texts.answers()
    return answers[0]["text"].strip() if answers else ""


def _exchange(one: Wanted, name: str, usage: dict[str, Any], seconds: float) -> Exchange:
    """Of no key: nobody is billed for it, and no limit counts it."""
    return Exchange(
        project_id=one.served.caller.project,
        policy_id=one.target.policy,
        completion_id=name,
        asked_for=one.served.asked.model[:120],
        status=200,
        shadow=True,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        latency_ms=round(1000 * seconds),
    )
