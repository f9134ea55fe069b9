"""One admitted request from its admission to its end, and the books that its end goes into.

However a request ends, it ends here once: its line in the journal, what its key has not used, the
metrics and the log all tell the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from plumbline.gateway import ids
from plumbline.gateway.directory import Caller, Target
from plumbline.gateway.engine import DONE, Chunks
from plumbline.gateway.journal import Journal
from plumbline.gateway.limits import Admission, Limiter
from plumbline.gateway.metrics import Metrics
from plumbline.gateway.models import Exchange
from plumbline.gateway.readiness import Readiness
from plumbline.gateway.routing import Way
from plumbline.gateway.storing import Store, Texts
from plumbline.gateway.tracing import tell
from plumbline.gateway.wire import ApiError, Asked

T = TypeVar("T")

# What OpenAI's replies hold; engines add fields of their own.
REPLY_FIELDS = ("id", "object", "created", "model", "choices", "usage", "system_fingerprint")
CHOICE_FIELDS = ("index", "message", "delta", "text", "logprobs", "finish_reason")
CLIENT_LEFT = 499
UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass
class Served:
    """One admitted request, until its line in the journal."""

    caller: Caller
    asked: Asked
    target: Target
    id: str
    client_id: str = ""
    way: Way | None = None  # what the model's name in the request stood for
    admission: Admission | None = None
    prompt_cost: int = 0  # the prompt's tokens, estimated
    began: float = field(default_factory=time.perf_counter)
    first: float | None = None  # seconds to a stream's first piece
    pieces: int = 0  # about as many tokens
    status: int = 200
    usage: Mapping[str, Any] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)
    last = b"data: " + DONE + b"\n\n"  # of a stream

    def dress(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """A reply or chunk of the engine under our id and the policy's immutable name."""
        if isinstance(reply.get("usage"), dict):
            self.usage = reply["usage"]
        if self.asked.stored is not None:
            self.texts.take(reply)
        kept = {name: reply[name] for name in REPLY_FIELDS if name in reply}
        kept["choices"] = [_choice(choice) for choice in reply.get("choices") or []]
        return {**kept, "id": self.id, "model": self.target.name}

    def say(self, chunk: Mapping[str, Any]) -> bytes:
        """What a client gets of a stream's chunk; nothing of one that holds only what it did not
        ask for."""
        dressed, wants_usage = self.dress(chunk), self.asked.include_usage
        if not wants_usage:
            dressed.pop("usage", None)
        if any(map(_says, dressed["choices"])):
            self.piece()
        return event(dressed) if dressed["choices"] or wants_usage else b""

    def fail(self, error: ApiError) -> bytes:
        """The end of a stream that broke."""
        return event(error.body)

    def piece(self) -> None:
        if self.first is None:
            self.first = time.perf_counter() - self.began
        self.pieces += 1

    def tokens(self) -> tuple[int, int]:
        """(in, out) by the engine's count; of a stream that its client left, about as many."""
        if self.usage:
            return self.usage.get("prompt_tokens") or 0, self.usage.get("completion_tokens") or 0
        if self.status == CLIENT_LEFT and self.pieces:
            return self.prompt_cost, self.pieces
        return 0, 0

    def used(self) -> int:
        """What of its admission it has used. Nothing when the engine failed; all of it when its
        client left before a word had come, since the engine may have been at work."""
        if self.status == CLIENT_LEFT and not self.pieces and self.admission is not None:
            return self.admission.cost
        return sum(self.tokens()) if self.status in (200, CLIENT_LEFT) else 0

    def exchange(self) -> Exchange:
        return Exchange(
            project_id=self.caller.project,
            api_key_id=self.caller.key,
            policy_id=self.target.policy,
            completion_id=self.id,
            client_request_id=self.client_id,
            asked_for=self.asked.model[:120],
            status=self.status,
            streamed=self.asked.stream,
            prompt_tokens=self.usage.get("prompt_tokens"),
            completion_tokens=self.usage.get("completion_tokens"),
            latency_ms=round(1000 * (time.perf_counter() - self.began)),
        )


class Books:
    """Everything that keeps count of requests that ended."""

    def __init__(
        self,
        journal: Journal,
        limiter: Limiter,
        metrics: Metrics,
        readiness: Readiness,
        store: Store,
    ) -> None:
        self._journal, self._limiter, self._readiness = journal, limiter, readiness
        self.metrics, self._store = metrics, store

    def close(self, served: Served) -> None:
        """Never blocks and never raises."""
        exchange = served.exchange()
        self._journal.add(exchange)
        self._store.add(served)
        self._limiter.settle(served.admission, served.used())
        tokens, milliseconds = served.tokens(), exchange.latency_ms
        if tokens[1]:
            self._readiness.token()
        elif served.status >= 502:
            self._readiness.doubt()
        self.metrics.ended(
            *(served.caller.project, served.target.name, served.status),
            *(tokens, served.first, milliseconds / 1000),
        )
        tell(
            "completion",
            {
                "request_id": f"req_{ids.request(served.id)}",
                "client_request_id": served.client_id,
                "key": f"plk_{served.caller.prefix}",
                "policy": served.target.name,
                "status": served.status,
                "prompt_tokens": tokens[0],
                "completion_tokens": tokens[1],
                "ms": milliseconds,
                "streamed": served.asked.stream,
            },
        )


class Whole(JSONResponse):
    """An answer in one piece, recorded behind its last byte."""

    def __init__(
        self,
        served: Served,
        answer: Mapping[str, Any],
        books: Books,
        headers: Mapping[str, str],
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__(served.dress(answer), headers=headers)
        self._served, self._books, self._after = served, books, background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._books.close(self._served)
        if self._after is not None:
            await self._after()


class Stream(Response):
    """Server-sent events, ending as their kind ends or in an error; recorded however they end.

    Events that come together go on together; none waits for another.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        served: Served,
        chunks: Chunks,
        books: Books,
        headers: Mapping[str, str],
        background: BackgroundTask | None = None,
    ) -> None:
        self.status_code, self.background = 200, background
        self.init_headers({**headers, **UNBUFFERED})
        self._served, self._chunks, self._books = served, chunks, books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._served.status = CLIENT_LEFT  # unless it comes to its end
        self._books.metrics.streams.inc()
        try:
            with contextlib.suppress(ClientDisconnect):
                await unless_client_leaves(receive, self._tell(send))
            if self.background is not None:
                await self.background()
        finally:
            self._books.metrics.streams.dec()
            self._books.close(self._served)
            await self._chunks.close()

    async def _tell(self, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        over = False
        while not over:
            said, over = await self._next()
            if said or over:
                await send({"type": "http.response.body", "body": said, "more_body": not over})

    async def _next(self) -> tuple[bytes, bool]:
        """What has come since, as the client gets it, and whether that was the end."""
        said = []
        try:
            for chunk in await self._chunks.batch():
                said.append(self._served.say(chunk))
            if over := self._chunks.ended:
                said.append(self._served.last)
                self._served.status = 200
        except ApiError as error:
            over = True
            said.append(self._served.fail(error))
            self._served.status = error.status
        return b"".join(said), over


async def unless_client_leaves(receive: Receive, answer: Coroutine[Any, Any, T]) -> T:
    """The answer; it is given up when nobody waits for it any more. Raises ClientDisconnect."""
    asking = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_farewell(receive))
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientDisconnect
        return asking.result()
    finally:
        for task in (asking, leaving):
            task.cancel()


async def _farewell(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: choice[name] for name in CHOICE_FIELDS if name in choice}
    message = kept.get("message") or {}
    if message.get("tool_calls") and not message.get("content"):
        kept["message"] = {**message, "content": None}  # engines say "" where OpenAI says nothing
    return kept


def _says(choice: Mapping[str, Any]) -> bool:
    """Whether a piece of a stream holds more than the announcement of a role."""
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or any(v for k, v in delta.items() if k != "role"))


def event(data: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(data)}\n\n".encode()  # ASCII: no client splits it at U+2028
