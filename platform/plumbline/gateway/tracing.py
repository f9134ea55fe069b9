"""Ids of requests, and a line in the log for each completion: never a word of what was said.

Every request gets an id of ours before anything can go wrong with it. A client's own id comes back
to it and stands beside ours in the log and in the journal.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plumbline.gateway.errors import SAFE

log = logging.getLogger("plumbline.requests")

SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")  # a client's id, which goes into headers and logs
SAFE_BYTES = [(name.encode(), value.encode()) for name, value in SAFE.items()]
THEIRS = (b"x-client-request-id", b"x-request-id")


class RequestId:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name = uuid.uuid4().hex
            headers = {"x-request-id": f"req_{name}"}
            theirs = _clients_own(scope)
            if theirs:
                headers["x-client-request-id"] = theirs
            scope["state"] = {
                **scope.get("state", {}),
                "id": name,
                "client_id": theirs,
                "headers": headers,
            }
            send = _safely(send)
        await self._app(scope, receive, send)


def _safely(send: Send) -> Send:
    async def safe(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = message.setdefault("headers", [])
            there = {name for name, _ in given}
            message["headers"] = [*given, *(one for one in SAFE_BYTES if one[0] not in there)]
        await send(message)

    return safe


def _clients_own(scope: Scope) -> str:
    given = dict(scope["headers"])
    for name in THEIRS:
        if SANE.fullmatch(given.get(name, b"")):
            return str(given[name].decode())
    return ""


def tell(said: str, facts: dict[str, Any]) -> None:
    """A line of facts; `LOG_FORMAT=json` shows them, other formats leave the lines out."""
    if log.isEnabledFor(logging.INFO):
        log.info(said, extra={"facts": facts})
