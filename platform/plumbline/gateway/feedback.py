"""Feedback over HTTP: signals on answers, comparisons, signed links for browsers, forgetting.

Everything can be sent twice: under the same name the same words are one row, other words are
refused. An answer of another project does not exist. Nothing here is a vote; see `review`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import close_old_connections, connections
from django.db.models import Q
from django.utils import timezone
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from plumbline.accounts.models import ApiKey, Scope
from plumbline.gateway import forgetting, ids, limits, links, said, taking
from plumbline.gateway.directory import Caller
from plumbline.gateway.limits import Limits
from plumbline.gateway.links import Link
from plumbline.gateway.models import ClientComparison, Feedback
from plumbline.gateway.taking import Row, Speaker
from plumbline.gateway.wire import ApiError, body_of

T = TypeVar("T")
Identify = Callable[[Request, Scope], Awaitable[Caller]]
Take = Callable[[Request, int, Limits], Awaitable[Any]]

# A browser may use a link from any page, and never with anything of its own: no cookies, no keys.
OPEN = {"access-control-allow-origin": "*"}
PREFLIGHT = {
    **OPEN,
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "content-type",
    "access-control-max-age": "600",
}


class Desk:
    """The endpoints; `caller` says who calls, `take` takes a request from limits. Both raise
    ApiError."""

    def __init__(self, caller: Identify, take: Take) -> None:
        self._caller, self._take = caller, take
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feedback")
        self.routes = [
            Route("/v1/feedback", self.feedback, methods=["POST"]),
            Route("/v1/feedback/links", self.link, methods=["POST"]),
            Route("/v1/feedback/links/{token}", self.by_link, methods=["POST", "OPTIONS"]),
            Route("/v1/feedback/{name}", self.one_feedback, methods=["GET"]),
            Route("/v1/comparisons", self.comparison, methods=["POST"]),
            Route("/v1/comparisons/{name}", self.one_comparison, methods=["GET"]),
            Route("/v1/end_users/forget", self.forget, methods=["POST"]),
        ]

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    async def feedback(self, request: Request) -> Response:
        caller = await self._admit(request)
        name, columns = said.feedback(await body_of(request), caller.project)
        name = name or _header_name(request) or ids.fresh("fb")
        speaker = Speaker(caller.project, caller.key)
        return await self._taken(request, taking.feedback, speaker, name, columns)

    async def one_feedback(self, request: Request) -> Response:
        return await self._shown(request, Feedback, taking.feedback_json)

    async def comparison(self, request: Request) -> Response:
        caller = await self._admit(request)
        name, columns = said.comparison(await body_of(request), caller.project)
        name = name or _header_name(request) or ids.fresh("cmp")
        speaker = Speaker(caller.project, caller.key)
        return await self._taken(request, taking.comparison, speaker, name, columns)

    async def one_comparison(self, request: Request) -> Response:
        return await self._shown(request, ClientComparison, taking.comparison_json)

    async def link(self, request: Request) -> Response:
        """A link through which a browser may give feedback on one answer, once."""
        caller = await self._admit(request)
        assert caller.key is not None, "the API is called with keys"
        wish = said.link(await body_of(request), caller.project)
        await self._ask(lambda: taking.check(caller.project, wish.completion_id, "completion_id"))
        token, link = links.make(
            caller.project, caller.key, wish.completion_id, wish.choice, wish.end_user, wish.seconds
        )
        reply = {
            "object": "feedback.link",
            "id": link.name,
            "url": f"{str(request.base_url).rstrip('/')}/v1/feedback/links/{token}",
            "completion_id": wish.completion_id,
            "expires_at": link.expires,
        }
        return JSONResponse(reply, 201, headers=request.state.headers)

    async def by_link(self, request: Request) -> Response:
        """What a link's holder says. Said again in the same words it is the same; the link takes
        nothing else after that."""
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**request.state.headers, **PREFLIGHT})
        request.state.headers.update(OPEN)
        link = links.read(request.path_params["token"])
        if link is None:
            raise ApiError(404, "This link does not exist.", code="link_not_found")
        if link.expired:
            raise ApiError(410, "This link has expired.", code="link_expired")
        await self._take(request, link.project, limits.of_link(link.key, link.name))
        columns = said.by_link(await body_of(request))
        about = {name: getattr(link, name) for name in ("completion_id", "choice", "end_user")}
        await self._ask(lambda: _check_maker(link))
        speaker = Speaker(link.project, link.key, by_link=True)
        given = (speaker, link.name, {**about, **columns})
        return await self._taken(request, taking.feedback, *given)

    async def forget(self, request: Request) -> Response:
        """Delete what is kept of an end user, by the name that the client knows them under."""
        caller = await self._admit(request)
        who = said.forgotten(await body_of(request), caller.project)
        found = await self._ask(lambda: forgetting.forget(caller.project, who))
        return JSONResponse(
            {"object": "end_user.forgotten", **found}, headers=request.state.headers
        )

    async def _admit(self, request: Request) -> Caller:
        """Who calls. Whatever they send counts, since all of it asks the database."""
        caller = await self._caller(request, Scope.FEEDBACK)
        await self._take(request, caller.project, limits.of_feedback(caller.limits))
        return caller

    async def _taken(self, request: Request, take: Callable[..., Any], *given: Any) -> Response:
        reply = await self._ask(lambda: take(*given))
        return JSONResponse(reply, 202, headers=request.state.headers)

    async def _shown(
        self, request: Request, model: type[Row], show: Callable[[Row], dict[str, Any]]
    ) -> Response:
        caller = await self._admit(request)
        name = request.path_params["name"]

        def look() -> dict[str, Any] | None:
            row = taking.find(model, caller.project, name) if said.ID.fullmatch(name) else None
            return show(row) if row is not None else None

        if (found := await self._ask(look)) is None:
            raise taking.unknown(name, None)
        return JSONResponse(found, headers=request.state.headers)

    async def _ask(self, query: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _fresh, query)


def _fresh(query: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return query()
    finally:
        close_old_connections()


def _header_name(request: Request) -> str:
    """SDKs that retry send a name of their own for the request."""
    given = request.headers.get("idempotency-key")
    return said.name(given, "Idempotency-Key") if given else ""


def _check_maker(link: Link) -> None:
    """Raises ApiError when the key that the link was made with is no longer good for it."""
    live = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
    key = ApiKey.objects.filter(live, pk=link.key, project=link.project).first()
    if key is None or Scope.FEEDBACK not in key.scopes:
        raise ApiError(410, "This link is no longer good.", code="link_expired")
