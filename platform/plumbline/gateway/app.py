"""The public API: OpenAI's completions over the policies of the caller's project.

One request: who calls, what is asked, which immutable policy that means; then the engine's answer
passes through under the policy's name and our own id, chunk by chunk when it is streamed. The
policy is fixed when a request is admitted, so a promotion never changes an answer half-way.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError  # InterfaceError included
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from align import directions
from plumbline.accounts.models import Scope as KeyScope
from plumbline.gateway import best_of, caps, ids, openapi, turning
from plumbline.gateway.balance import Engines
from plumbline.gateway.best_of import BestOf, Judge
from plumbline.gateway.chat_writer import ChatWriter
from plumbline.gateway.directory import Caller, Directory, Listed, Target
from plumbline.gateway.endpoints import CHAT, PLAIN, RESPONSES, Endpoint
from plumbline.gateway.engine import NO_MODEL, RETRY_AFTER
from plumbline.gateway.feedback import Desk
from plumbline.gateway.gate import Gate
from plumbline.gateway.journal import Journal
from plumbline.gateway.limits import Admission, Limited, Limiter, Limits
from plumbline.gateway.live import LiveWriter
from plumbline.gateway.metrics import Metrics
from plumbline.gateway.readiness import AWAY, UP, Readiness
from plumbline.gateway.routing import Way, find_way
from plumbline.gateway.served import (
    CLIENT_LEFT,
    Books,
    Served,
    Stream,
    Whole,
    unless_client_leaves,
)
from plumbline.gateway.shadows import Shadows, UnderWay
from plumbline.gateway.storing import Store
from plumbline.gateway.tracing import RequestId
from plumbline.gateway.wire import ApiError, Asked, body_of

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1")
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Gateway:
    """The endpoints and what they share."""

    def __init__(self) -> None:
        self.engine = Engines()
        self.directory = Directory()
        self.gate = Gate(self.directory)
        self.journal = Journal()
        self.live = LiveWriter(self.engine, self.gate)
        self.limiter = Limiter(settings.REDIS_URL)
        self.metrics = Metrics(lambda: self.gate.waiting, lambda: self.journal.waiting)
        self.metrics.engines(self.engine.members)
        self.readiness = Readiness(self.engine, self.directory, self.limiter)
        self.store = Store()
        self.books = Books(self.journal, self.limiter, self.metrics, self.readiness, self.store)
        self.chat = ChatWriter(self.engine, self.gate, self.directory, self.limiter, self.books)
        self.shadows = Shadows(self.engine, self.gate, self.journal, self.store, self.metrics)
        self.best = BestOf(self.engine, self.directory)
        self.desk = Desk(self._caller, self._take)

    async def health(self, request: Request) -> Response:
        """Liveness: this process answers. What it needs may be away; `ready` says so."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Requests pass without Redis, so its absence is told and no reason to send them away."""
        parts = await self.readiness.parts()
        away = [name for name, state in parts.items() if state == AWAY]
        if away == ["redis"]:
            return JSONResponse({"status": "ready; keys' limits do not hold", **parts})
        status = f"not ready: {', '.join(away)}" if away else "ready"
        return JSONResponse({"status": status, **parts}, 503 if away else 200)

    async def prometheus(self, request: Request) -> Response:
        """For this machine all of it, for a key that manages a project that project's part."""
        project = None
        if not _from_this_machine(request):
            project = (await self._caller(request, KeyScope.MANAGE)).project
        else:
            self.metrics.engine.set((await self.readiness.parts())["engine"] == UP)
        return Response(self.metrics.text(project), media_type=CONTENT_TYPE_LATEST)

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
        return await self._complete(request, CHAT)

    async def completions(self, request: Request) -> Response:
        return await self._complete(request, PLAIN)

    async def responses(self, request: Request) -> Response:
        return await self._complete(request, RESPONSES)

    async def _complete(self, request: Request, end: Endpoint) -> Response:
        caller = await self._caller(request)
        asked = end.read(await body_of(request), settings.MAX_MODEL_LEN)
        caps.keep(caller.caps, asked)
        judge = await self.best.judge(caller.project) if asked.best_of > 1 else None
        id = request.state.id
        way = await self._way(caller, asked)
        target = way.choose(caller, asked, id)
        name = ids.completion(end.kind, id, caller.project)
        served = end.served(caller, asked, target, name, request.state.client_id, way)
        await self._admit(request, served)
        request.state.counted = True  # from here on its end is in the books
        try:
            if await self.gate.shut():
                await self._wait(request, served)
            try:
                return await self._answer(request, served, end, judge)
            except ApiError as error:
                if _code(error) != NO_MODEL or not await self._has_moved(request, served):
                    raise
            return await self._answer(request, served, end, judge)
        except ApiError as error:
            trouble = _not_loaded(error, served.target)
            served.status = trouble.status
            self.books.close(served)
            raise trouble from error
        except (ClientDisconnect, DatabaseError) as error:
            served.status = CLIENT_LEFT if isinstance(error, ClientDisconnect) else 503
            self.books.close(served)
            raise

    async def _answer(
        self, request: Request, served: Served, end: Endpoint, judge: Judge | None
    ) -> Response:
        """The engine's answer to an admitted request, its end in the books."""
        asked, target, id = served.asked, served.target, request.state.id
        request.state.headers["x-policy-version"] = target.name
        if served.way is not None and served.way.weights:
            request.state.headers["x-objectives"] = served.way.weights
        body = {**asked.body, "model": target.engine_name}
        if served.way is not None and served.way.direction is not None:
            body = turning.turned(body, served.way.direction)
            request.state.headers["x-direction"] = directions.parts(served.way.direction)
        after = BackgroundTask(self.shadows.offer, served)
        if judge is not None:
            best = self.best.answer(judge, end.path, body, id)
            answer, told = await unless_client_leaves(request.receive, best)
            reply = served.dress(answer)
            self.books.close(served)
            return best_of.response(served, reply, told, request.state.headers, after)
        if asked.stream:
            chunks = await self.engine.stream(end.path, body, id)
            return Stream(served, chunks, self.books, request.state.headers, after)
        whole = self.engine.whole(end.path, body, id)
        answer = await unless_client_leaves(request.receive, whole)
        return Whole(served, answer, self.books, request.state.headers, after)

    async def _wait(self, request: Request, served: Served) -> None:
        """Until the gate is open; the request then goes where its model's name leads now."""
        await unless_client_leaves(request.receive, self.gate.opened())
        served.way = await self._way(served.caller, served.asked)
        served.target = served.way.choose(served.caller, served.asked, request.state.id)

    async def _has_moved(self, request: Request, served: Served) -> bool:
        """Whether a policy that the engine no longer has made room for others while the request was
        on its way to it, which the request then goes to instead."""
        before = served.target
        if await self.gate.shut():
            await self._wait(request, served)
            return True
        served.way = await self._way(served.caller, served.asked)
        served.target = served.way.choose(served.caller, served.asked, request.state.id)
        return served.target != before

    async def _admit(self, request: Request, served: Served) -> None:
        """Take what the request may use at most from its key's limits."""
        limits = served.caller.limits
        if not limits:
            return
        served.prompt_cost, cost = caps.cost(served.asked, settings.MAX_MODEL_LEN)
        served.admission = await self._take(request, served.caller.project, limits, cost)

    async def _take(
        self, request: Request, project: int, limits: Limits, cost: int = 0
    ) -> Admission | None:
        try:
            return await self.limiter.admit(limits, cost, request.state.headers)
        except Limited as error:
            self.metrics.limited(project, error.limit)
            raise

    async def say_no(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = ApiError(
                error.status_code, f"{request.method} {request.url.path}: {error.detail}."
            )
        elif isinstance(error, DatabaseError):
            log.error("the database does not answer: %s", error)
            said = "The gateway cannot look up keys and policies at the moment."
            error = ApiError(503, said, retry_after=RETRY_AFTER)
        elif not isinstance(error, ApiError):  # the traceback is in the log
            error = ApiError(500, "The gateway failed; its log knows why.")
        if not getattr(request.state, "counted", False):
            self.metrics.refused(error.status)
        headers = getattr(request.state, "headers", {})
        return error.response(headers)

    async def _way(self, caller: Caller, asked: Asked) -> Way:
        found = await find_way(self.directory, caller.project, asked.model)
        if found is None:
            raise _no_model(asked.model)
        return found

    async def _caller(self, request: Request, scope: KeyScope = KeyScope.INFER) -> Caller:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        caller = None
        if scheme.lower() == "bearer" and 0 < len(secret) <= 200:
            caller = await self.directory.caller(secret)
        if caller is None:
            said = "Incorrect API key provided." if secret else "No API key was provided."
            raise ApiError(401, said, code="invalid_api_key")
        if scope not in caller.scopes:
            said = f"This API key may not {scope.label.lower()}."
            raise ApiError(403, said, code="missing_scope")
        return caller


def create_app() -> Starlette:
    """The application; its connections and threads live from start-up to shut-down."""
    gateway = Gateway()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        gateway.journal.start()
        gateway.live.start()
        gateway.chat.start()
        gateway.store.start()
        gateway.shadows.start()
        yield
        await gateway.shadows.close()
        await gateway.live.close()
        await gateway.chat.close()
        await gateway.gate.close()
        await gateway.best.close()
        await gateway.engine.close()
        await gateway.limiter.close()
        await gateway.journal.close()
        await gateway.store.close()
        await gateway.desk.close()
        await gateway.directory.close()

    app = Starlette(
        routes=[
            Route("/health", gateway.health),
            Route("/ready", gateway.ready),
            Route("/metrics", gateway.prometheus),
            Route("/v1/openapi.json", _described),
            Route("/v1/models", gateway.models),
            Route("/v1/models/{model}", gateway.model),
            Route("/v1/chat/completions", gateway.chat_completions, methods=["POST"]),
            Route("/v1/completions", gateway.completions, methods=["POST"]),
            Route("/v1/responses", gateway.responses, methods=["POST"]),
            *gateway.desk.routes,
        ],
        exception_handlers={
            **dict.fromkeys((ApiError, HTTPException, DatabaseError, Exception), gateway.say_no),
            ClientDisconnect: _gone,
        },
        lifespan=lifespan,
    )
    app.add_middleware(UnderWay, load=gateway.shadows.load)
    app.add_middleware(RequestId)
    return app


async def _described(request: Request) -> Response:
    return JSONResponse(openapi.document(settings.MAX_MODEL_LEN))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


def _from_this_machine(request: Request) -> bool:
    """By a connection from here that no proxy says it forwards: it would be everybody's."""
    near = request.client is not None and request.client.host in LOOPBACK
    return near and not any(name in request.headers for name in FORWARDED)


def _not_loaded(error: ApiError, target: Target) -> ApiError:
    """An engine that has just started does not know yet what the aliases point at."""
    if _code(error) == NO_MODEL and target.deployed:
        said = f"{target.name} is being loaded."
        return ApiError(503, said, code="model_loading", retry_after=RETRY_AFTER)
    return error


def _code(error: ApiError) -> str | None:
    code: str | None = error.body["error"]["code"]
    return code


def _no_model(name: str) -> ApiError:
    return ApiError(404, f"The model {name!r} does not exist.", param="model", code=NO_MODEL)


def _card(one: Listed) -> dict[str, Any]:
    return {
        "id": one.id,
        "object": "model",
        "created": one.created,
        "owned_by": "plumbline",
        "root": one.root,
    }
