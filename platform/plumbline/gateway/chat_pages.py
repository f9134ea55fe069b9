"""The chat page, and what its script asks for. It talks to this site only; no key is involved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from plumbline.gateway import chat, chat_said
from plumbline.gateway.chat_models import ChatAnswer
from plumbline.gateway.wire import ApiError, bad, object_of
from plumbline.permissions import PlumblineRequest

MOST_ASKED = 8  # answers in one question
View = Callable[[PlumblineRequest], dict[str, Any]]


@never_cache
def page(request: PlumblineRequest) -> HttpResponse:
    context = {
        "choices": chat.choices(request.project),
        "keep_days": settings.KEEP_TEXTS_DAYS,
        "most_tokens": settings.MAX_MODEL_LEN,
    }
    return render(request, "gateway/chat.html", context)


def _told(view: View) -> Callable[[PlumblineRequest], HttpResponse]:
    """JSON for the page's script, refusals as a sentence in `error`."""

    @wraps(view)
    def answer(request: PlumblineRequest) -> HttpResponse:
        try:
            return JsonResponse(view(request))
        except ApiError as error:
            return JsonResponse({"error": str(error)}, status=error.status)

    return never_cache(answer)


@_told
def ask(request: PlumblineRequest) -> dict[str, Any]:
    wish = chat.read(request.body)
    if wish.again is not None:
        return {"answers": [chat.told(chat.again(request.user, request.project, wish, wish.again))]}
    rows = chat.begin(request.user, request.project, wish)
    if wish.instead_of is not None and len(rows) == 1:
        chat_said.regenerated(request.user, request.project, wish.instead_of, rows[0])
    return {"answers": [chat.told(row) for row in rows]}


@_told
def news(request: PlumblineRequest) -> dict[str, Any]:
    """What has come since: `?ID=SEEN` for each answer; what is not here any more is left out."""
    seen = {}
    for name in list(request.GET)[:MOST_ASKED]:
        value = request.GET.get(name, "")
        if value.isascii() and value.isdigit() and len(value) < 9:
            seen[_uuid(name)] = int(value)
    rows = _mine(request, list(seen)).select_related("policy")
    return {"answers": [chat.told(row, seen[row.pk]) for row in rows]}


@_told
def stop(request: PlumblineRequest) -> dict[str, Any]:
    given = object_of(request.body).get("answers")
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_ASKED:
        raise bad("answers", f"must be a list of at most {MOST_ASKED}")
    rows = chat.stop(request.user, request.project, [_uuid(one) for one in given])
    for row in rows:
        if row.text:
            chat_said.done(row, chat_said.STOPPED)
    return {"answers": [chat.told(row) for row in rows]}


@_told
def say(request: PlumblineRequest) -> dict[str, Any]:
    """A verdict on a turn's two answers, or a word on one answer."""
    given = object_of(request.body)
    if "turn" in given:
        turn, word = _uuid(given["turn"]), given.get("verdict")
        rows = chat_said.verdict(request.user, request.project, turn, word)
        return {"answers": [_who(row) for row in rows]}
    row = _mine(request, [_uuid(given.get("answer"))]).select_related("user").first()
    if row is None:
        raise ApiError(404, "This answer is no longer here; new ones can be judged.")
    if given.get("did") == chat_said.COPIED:
        chat_said.done(row, chat_said.COPIED)
    else:
        chat_said.thumb(row, given)
    return {"answers": [_who(row)]}


def _who(row: ChatAnswer) -> dict[str, Any]:
    known = {} if row.blind else {key: chat.told(row).get(key) for key in WHO}
    return {"id": row.pk, **known}


WHO = ("asked_for", "policy", "ms", "first_ms")


def _mine(request: PlumblineRequest, wanted: Sequence[UUID]) -> Any:
    """Answers of one's own; anybody else's do not exist."""
    return ChatAnswer.objects.filter(
        user=request.user, project=request.project, pk__in=wanted
    ).order_by("place")


def _uuid(given: object) -> UUID:
    try:
        return UUID(str(given))
    except ValueError:
        raise bad("answer", "must be the UUID of an answer") from None
