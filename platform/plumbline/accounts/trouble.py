"""A database that is away, full or too slow is no error of the page: whoever asked is told to come
back in a moment, and keeps what they filled in.

`limit_statements` is what makes a slow database show: processes that answer people give a statement
up after some seconds, so that requests do not pile up behind it until nothing is answered at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.exceptions import BadRequest, RequestDataTooBig, TooManyFieldsSent
from django.db import InterfaceError, OperationalError, connections
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.shortcuts import render

RETRY_AFTER = 5  # seconds
PATIENCE = 6
SENTENCE = "The database cannot be reached at the moment. Try again in a few seconds."
SECRETS = ("password", "secret", "code", "token")  # never written into a page again
MOST_KEPT = 200_000  # characters
BUGS = ("no such table", "no such column")  # what SQLite calls operational and is none


def passing(error: BaseException | None) -> bool:
    """Whether it is trouble of the database that will pass."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    return not str(error).startswith(BUGS)


def come_back(request: HttpRequest) -> HttpResponse:
    """503 with a time to come back; a form that was sent comes back with a button to send it again.

    Its key comes with it, so that what was stored after all is not stored twice.
    """
    if "application/json" in request.headers.get("Accept", ""):
        reply: HttpResponse = JsonResponse({"error": SENTENCE}, status=503)
    else:
        kept = list(_kept(request)) if request.method == "POST" else []
        context = {"kept": kept, "sentence": SENTENCE}
        reply = render(request, "errors/503.html", context, status=503)
    reply["Retry-After"] = str(RETRY_AFTER)
    return reply


def limit_statements(seconds: int) -> None:
    """Connections that this process opens from now on give a statement up after so long, the wait
    for a lock included; one whose process is stopped in the middle of a transaction is ended after
    `PATIENCE` times as long, for it holds locks. PostgreSQL only; SQLite waits 20 s. 0: never."""
    limits = {
        "statement_timeout": seconds,
        "idle_in_transaction_session_timeout": PATIENCE * seconds,
    }
    for one in connections.settings.values():
        if one["ENGINE"] == "plumbline.postgresql" and seconds:
            said = "".join(f" -c {name}={value}s" for name, value in limits.items())
            options = one.setdefault("OPTIONS", {})
            options["options"] = options.get("options", "") + said


def _kept(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """The fields that were sent. None of a form with files or secrets, or one too large."""
    try:
        sent, files = request.POST, request.FILES
    except (BadRequest, RequestDataTooBig, TooManyFieldsSent, UnreadablePostError):
        return
    secret = any(word in name.lower() for name in sent for word in SECRETS if "csrf" not in name)
    if files or secret or sum(len(v) for vs in sent.lists() for v in vs[1]) > MOST_KEPT:
        return
    for name, values in sent.lists():
        for value in values:
            yield name, value
