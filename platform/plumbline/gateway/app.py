"""The public API: OpenAI's completions over the policies of the caller's project.

One request: who calls, what is asked, which immutable policy that means; then the engine's answer
passes through under the policy's name and our own id, chunk by chunk when it is streamed. The
policy is fixed when a request is admitted, so a promotion never changes an answer half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error as DatabaseError  # InterfaceError included
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from plumbline.accounts.models import Scope as KeyScope
from plumbline.gateway.directory import Caller, Directory, Listed, Target
from plumbline.gateway.engine import DONE, RETRY_AFTER, Chunks, Engine
from plumbline.gateway.gate import Gate
from plumbline.gateway.journal import Journal
from plumbline.gateway.models import Exchange
from plumbline.gateway.wire import LARGEST_BODY, ApiError, Asked, parse

log = logging.getLogger(__name__)

# What OpenAI's replies hold; engines add fields of their own.
REPLY_FIELDS = ("id", "object", "created", "model", "choices", "usage", "system_fingerprint")
CHOICE_FIELDS = ("index", "message", "delta", "text", "logprobs", "finish_reason")
CLIENT_LEFT = 499
T = TypeVar("T")


@dataclass
class Served:
    """One admitted request, until its line in the journal."""

    caller: Caller
    asked: Asked
    target: Target
    id: str
    began: float = field(default_factory=time.perf_counter)
    status: int = 200
    usage: Mapping[str, Any] = field(default_factory=dict)

    def dress(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """A reply or chunk of the engine under our id and the policy's immutable name."""
        if isinstance(reply.get("usage"), dict):
            self.usage = reply["usage"]
        kept = {name: reply[name] for name in REPLY_FIELDS if name in reply}
        kept["choices"] = [
            {name: choice[name] for name in CHOICE_FIELDS if name in choice}
            for choice in reply.get("choices") or []
        ]
        return {**kept, "id": self.id, "model": self.target.name}

    def exchange(self) -> Exchange:
        return Exchange(
            project_id=self.caller.project,
            api_key_id=self.caller.key,
            policy_id=self.target.policy,
            completion_id=self.id,
            asked_for=self.asked.model[:120],
            status=self.status,
            streamed=self.asked.stream,
            prompt_tokens=self.usage.get("prompt_tokens"),
            completion_tokens=self.usage.get("completion_tokens"),
            latency_ms=round(1000 * (time.perf_counter() - self.began)),
        )


class Gateway:
    """The endpoints and what they share."""

    def __init__(self) -> None:
        self.engine = Engine(settings.ENGINE_URL)
        self.directory = Directory()
        self.gate = Gate(self.directory)
        self.journal = Journal()

    async def health(self, request: Request) -> Response:
        if await self.directory.lent():
            engine = "lent"
        else:
            engine = "up" if await self.engine.served() else "down"
        return JSONResponse({"status": "ok", "engine": engine})

    async def models(self, request: Request) -> Response:
        caller = await self._caller(request)
        listed = await self.directory.listing(caller.project, await self.engine.served())
        return JSONResponse({"object": "list", "data": [_card(one) for one in listed]})

    async def model(self, request: Request) -> Response:
        caller = await self._caller(request)
        wanted = request.path_params["model"]
        for one in await self.directory.listing(caller.project, await self.engine.served()):
            if one.id == wanted:
                return JSONResponse(_card(one))
        raise _no_model(wanted)

    async def chat_completions(self, request: Request) -> Response:
        return await self._complete(request, "/v1/chat/completions", chat=True)

    async def completions(self, request: Request) -> Response:
        return await self._complete(request, "/v1/completions", chat=False)

    async def _complete(self, request: Request, path: str, *, chat: bool) -> Response:
        caller = await self._caller(request)
        asked = parse(await _body(request), settings.MAX_MODEL_LEN, chat=chat)
        target = await self._target(caller, asked)
        kind = "chatcmpl" if chat else "cmpl"
        served = Served(caller, asked, target, f"{kind}-{request.state.id}")
        try:
            if await self.gate.shut():
                await _unless_client_leaves(request, self.gate.opened())
                served.target = target = await self._target(caller, asked)  # of now
            request.state.headers["x-policy-version"] = target.name
            body = {**asked.body, "model": target.engine_name}
            if asked.stream:
                return _Stream(
                    served,
                    await self.engine.stream(path, body),
                    self.journal,
                    request.state.headers,
                )
            answer = await _unless_client_leaves(request, self.engine.whole(path, body))
        except ApiError as error:
            trouble = _not_loaded(error, target)
            served.status = trouble.status
            self.journal.add(served.exchange())
            raise trouble from error
        except ClientDisconnect:
            served.status = CLIENT_LEFT
            self.journal.add(served.exchange())
            raise
        reply = served.dress(answer)
        self.journal.add(served.exchange())
        return JSONResponse(reply, headers=request.state.headers)

    async def _target(self, caller: Caller, asked: Asked) -> Target:
        target = await self.directory.target(caller.project, asked.model)
        if target is None:
            raise _no_model(asked.model)
        return target

    async def _caller(self, request: Request) -> Caller:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        caller = None
        if scheme.lower() == "bearer" and 0 < len(secret) <= 200:
            caller = await self.directory.caller(secret)
        if caller is None:
            said = "Incorrect API key provided." if secret else "No API key was provided."
            raise ApiError(401, said, code="invalid_api_key")
        if KeyScope.INFER not in caller.scopes:
            raise ApiError(403, "This API key may not query policies.", code="missing_scope")
        return caller


class _Stream(StreamingResponse):
    """Server-sent events, ending in [DONE] or in an error; recorded however they end."""

    def __init__(
        self, served: Served, chunks: Chunks, journal: Journal, headers: Mapping[str, str]
    ) -> None:
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(
            self._events(), media_type="text/event-stream", headers={**headers, **unbuffered}
        )
        self._served, self._chunks, self._journal = served, chunks, journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._served.status = CLIENT_LEFT  # unless it comes to its end
        try:
            with contextlib.suppress(ClientDisconnect):
                await super().__call__(scope, receive, send)
        finally:
            self._journal.add(self._served.exchange())
            await self._chunks.close()

    async def _events(self) -> AsyncIterator[bytes]:
        wants_usage = self._served.asked.include_usage
        try:
            async for chunk in self._chunks:
                dressed = self._served.dress(chunk)
                if not wants_usage:
                    dressed.pop("usage", None)
                if dressed["choices"] or wants_usage:
                    yield _event(dressed)
            self._served.status = 200
            yield b"data: " + DONE + b"\n\n"
        except ApiError as error:
            self._served.status = error.status
            yield _event(error.body)


def create_app() -> Starlette:
    """The application; its connections and threads live from start-up to shut-down."""
    gateway = Gateway()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        gateway.journal.start()
        yield
        await gateway.gate.close()
        await gateway.engine.close()
        await gateway.journal.close()
        await gateway.directory.close()

    app = Starlette(
        routes=[
            Route("/health", gateway.health),
            Route("/v1/models", gateway.models),
            Route("/v1/models/{model}", gateway.model),
            Route("/v1/chat/completions", gateway.chat_completions, methods=["POST"]),
            Route("/v1/completions", gateway.completions, methods=["POST"]),
        ],
        exception_handlers={
            ApiError: _say_no,
            HTTPException: _say_no,
            DatabaseError: _say_no,
            ClientDisconnect: _gone,
            Exception: _say_no,
        },
        lifespan=lifespan,
    )
    app.add_middleware(_RequestId)
    return app


class _RequestId:
    """Names every request before anything can go wrong with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name = uuid.uuid4().hex
            scope["state"] = {
                **scope.get("state", {}),
                "id": name,
                "headers": {"x-request-id": f"req_{name}"},
            }
        await self._app(scope, receive, send)


async def _say_no(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.")
    elif isinstance(error, DatabaseError):
        log.error("the database does not answer: %s", error)
        said = "The gateway cannot look up keys and policies at the moment."
        error = ApiError(503, said, retry_after=RETRY_AFTER)
    elif not isinstance(error, ApiError):  # the traceback is in the log
        error = ApiError(500, "The gateway failed; its log knows why.")
    headers = getattr(request.state, "headers", {})
    return error.response(headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST_BODY:
            raise ApiError(413, f"The request body is larger than {LARGEST_BODY >> 20} MiB.")
    return bytes(raw)


async def _unless_client_leaves(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """The answer; it is given up when nobody waits for it any more."""
    asking = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(request.receive())  # the body is read: only a farewell is left
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientDisconnect
        return asking.result()
    finally:
        for task in (asking, leaving):
            task.cancel()


def _not_loaded(error: ApiError, target: Target) -> ApiError:
    """An engine that has just started does not know yet what the aliases point at."""
    if error.status == 404 and target.deployed:
        said = f"{target.name} is being loaded."
        return ApiError(503, said, code="model_loading", retry_after=RETRY_AFTER)
    return error


def _no_model(name: str) -> ApiError:
    return ApiError(
        404, f"The model {name!r} does not exist.", param="model", code="model_not_found"
    )


def _card(one: Listed) -> dict[str, Any]:
    return {
        "id": one.id,
        "object": "model",
        "created": one.created,
        "owned_by": "plumbline",
        "root": one.root,
    }


def _event(data: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()  # ASCII: no client splits it at U+2028
