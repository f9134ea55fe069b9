"""The chat page's answers, for the pages: what may be asked, asking it, how far it is, stopping it.

The gateway does the writing (`chat_writer`), the browser keeps the conversation. A request is made
and checked here exactly as the API reads it, so what it refuses is refused before anybody waits.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.collect.live.settings import samplable
from plumbline.collect.render import markdown
from plumbline.collect.screen import CUT_OFF
from plumbline.gateway import ids
from plumbline.gateway.chat_models import BROKEN, ChatAnswer
from plumbline.gateway.errors import unknown
from plumbline.gateway.row_writer import GONE
from plumbline.gateway.wire import LARGEST_BODY, ApiError, bad, object_of, parse
from plumbline.policies.models import Deployment, Loan, Objective, Policy
from plumbline.policies.serving import CURRENT

MOST_AT_ONCE = 4  # answers of one person under way, in one project
LONG_AGO = timedelta(minutes=15)  # what is still open then, nobody waits for
SAMPLING = ("temperature", "max_tokens", "seed")
WISH = {"turn", "messages", "sides", "blind", "keep", "instead_of", "again", *SAMPLING}
State = ChatAnswer.State
OPEN = (State.WAITING, State.WRITING)
_chance = random.SystemRandom()


@dataclass(frozen=True)
class Wish:
    """What a browser asks for. `instead_of`: the answer that this one is to replace; `again`: one
    that broke off and is to be written anew, where it stands."""

    turn: UUID
    messages: Any
    sides: list[str]
    blind: bool
    keep: bool
    sampling: dict[str, Any]
    instead_of: UUID | None = None
    again: UUID | None = None


@dataclass(frozen=True)
class Choices:
    """What can be talked to: (title, names with their labels) for each kind, and what the page
    begins with, "" where there is nothing."""

    groups: list[tuple[str, list[tuple[str, str]]]]
    first: str
    second: str


def choices(project: Project) -> Choices:
    """Aliases, objectives, and the policies that the engine serves or loads when asked."""
    aliases = list(Deployment.objects.filter(project=project).select_related("policy", "previous"))
    aliases.sort(key=lambda one: (one.alias != CURRENT, one.alias))
    objectives = [f"plumbline:{one.name}" for one in Objective.objects.filter(project=project)]
    here = {one.alias for one in aliases} | {CURRENT}
    policies = [name for name in samplable(project) if name not in here]
    groups = [
        ("Aliases", [(one.alias, f"{one.alias} (now {one.policy.name})") for one in aliases]),
        ("Objectives", [(name, name) for name in objectives]),
        ("Policies", [(name, name) for name in policies]),
    ]
    every = [name for _, found in groups for name, _ in found]
    first = every[0] if every else ""
    return Choices([one for one in groups if one[1]], first, _other(project, aliases, every))


def _other(project: Project, aliases: Sequence[Deployment], every: Sequence[str]) -> str:
    """Beside the first: what was served before it, else the base model, else whatever there is."""
    if aliases and aliases[0].previous is not None and aliases[0].previous.name in every:
        return aliases[0].previous.name
    bases = Policy.objects.filter(project=project, weights=Policy.Weights.BASE)
    if aliases:
        bases = bases.exclude(pk=aliases[0].policy_id)
    named = [name for name in bases.values_list("name", flat=True) if name in every]
    return (named or list(every[1:]) or list(every) or [""])[0]


def read(raw: bytes) -> Wish:
    """Raises ApiError naming what is wrong with it."""
    if len(raw) > LARGEST_BODY:
        raise ApiError(413, "This conversation is too long. Begin a new chat.")
    given = object_of(raw)
    for name in given.keys() - WISH:
        raise unknown(name)
    sides = given.get("sides")
    if not isinstance(sides, list) or not 1 <= len(sides) <= 2:
        raise bad("sides", "must be one policy or two")
    sampling = {name: given[name] for name in SAMPLING if given.get(name) is not None}
    return Wish(
        _uuid(given, "turn"),
        _clean(given.get("messages")),
        sides,
        _flag(given, "blind") and len(sides) == 2,
        _flag(given, "keep") and settings.KEEP_TEXTS_DAYS > 0,
        sampling,
        *(_uuid(given, name) if given.get(name) else None for name in ("instead_of", "again")),
    )


def begin(user: User, project: Project, wish: Wish) -> list[ChatAnswer]:
    """The answers, in the order of their places; sent twice they are begun once. Sides that are
    compared blind are shuffled here. Raises ApiError with a sentence."""
    found = _turn(user, project, wish.turn)
    if found:
        return found
    asked = [_request(user, project, wish, side) for side in wish.sides]
    if wish.blind:
        _chance.shuffle(asked)
    _check_room(user, project, len(asked))
    rows = [
        ChatAnswer(
            project=project,
            user=user,
            turn=wish.turn,
            place=place,
            asked_for=one["model"],
            asked=one,
            blind=wish.blind,
            keep=wish.keep,
            completion_id=ids.completion("chatcmpl", uuid4().hex, project.pk),
        )
        for place, one in enumerate(asked)
    ]
    try:
        with transaction.atomic():
            return ChatAnswer.objects.bulk_create(rows)
    except IntegrityError:  # the same, sent twice at once
        found = _turn(user, project, wish.turn)
        if not found:
            raise
        return found


def again(user: User, project: Project, wish: Wish, which: UUID) -> ChatAnswer:
    """Have an answer that broke off or was stopped written anew, by who was to write it. Raises
    ApiError."""
    mine = ChatAnswer.objects.filter(user=user, project=project, pk=which)
    row = mine.filter(turn=wish.turn).first()
    if row is None:
        raise ApiError(404, "This answer is no longer here. Send the message again.")
    asked = _request(user, project, wish, row.asked_for)
    _check_room(user, project, 1)
    now = timezone.now()
    mine.filter(state__in=(State.FAILED, State.STOPPED), attempt=row.attempt).update(
        state=State.WAITING,
        attempt=row.attempt + 1,
        asked=asked,
        keep=wish.keep,
        completion_id=ids.completion("chatcmpl", uuid4().hex, project.pk),
        policy=None,
        text="",
        trouble="",
        finish_reason="",
        tokens=None,
        first_ms=None,
        latency_ms=None,
        created_at=now,
        grown_at=now,
    )
    row.refresh_from_db()
    return row


def member(user: User) -> str:
    """The end user that a member is to the API: for canaries, stored texts and forgetting."""
    return f"member:{user.username}"


def told(row: ChatAnswer, seen: int = 0) -> dict[str, Any]:
    """What a browser that has seen so much of an answer is told; who writes it, unless that is to
    be judged blind."""
    row = _as_it_is(row)
    at = min(seen, len(row.text))
    news: dict[str, Any] = {
        "id": row.pk,
        "state": row.state,
        "attempt": row.attempt,
        "at": at,
        "more": row.text[at:],
        "upto": row.upto,
    }
    if not row.blind:
        news |= {"asked_for": row.asked_for, "policy": row.policy.name if row.policy else ""}
        news |= {"ms": row.latency_ms, "first_ms": row.first_ms}
    if row.state not in OPEN:
        html = markdown(row.text) if row.text else ""
        news |= {"html": html, "tokens": row.tokens, "trouble": row.trouble}
        news |= {"cut": CUT_OFF.get(row.finish_reason, "")}
    elif not row.text:
        news["lent"] = Loan.objects.exists()
    return news


def stop(user: User, project: Project, wanted: Sequence[UUID]) -> list[ChatAnswer]:
    """Stop what is still written of these; the gateway lets go at its next look."""
    mine = ChatAnswer.objects.filter(user=user, project=project, pk__in=wanted)
    stopped = [
        row.pk
        for row in mine.filter(state__in=OPEN)
        if mine.filter(pk=row.pk, state__in=OPEN).update(state=State.STOPPED, asked=None)
    ]
    return list(mine.filter(pk__in=stopped))


def _turn(user: User, project: Project, turn: UUID) -> list[ChatAnswer]:
    found = ChatAnswer.objects.filter(user=user, project=project, turn=turn)
    return list(found.order_by("place"))


def _check_room(user: User, project: Project, more: int) -> None:
    recent = timezone.now() - LONG_AGO
    mine = ChatAnswer.objects.filter(user=user, project=project, created_at__gt=recent)
    if mine.filter(state__in=OPEN).count() + more > MOST_AT_ONCE:
        said = f"{MOST_AT_ONCE} of your answers are being written already. Wait, or stop one."
        raise ApiError(429, said, code="rate_limit_exceeded")


def _request(user: User, project: Project, wish: Wish, side: object) -> dict[str, Any]:
    """The request as a client would send it. Raises ApiError where the API would refuse it."""
    asked = {"model": side, "messages": wish.messages, **wish.sampling, "stream": True}
    asked["user"] = member(user)
    if wish.keep:
        asked |= {"store": True, "consent_train": True}
    parse(json.dumps(asked).encode(), settings.MAX_MODEL_LEN, chat=True)
    known = {name for _, group in choices(project).groups for name, _ in group}
    if side not in known:
        raise ApiError(404, f"{side} cannot be asked. Choose another policy.", param="sides")
    return asked


def _as_it_is(row: ChatAnswer) -> ChatAnswer:
    """What a dead writer left is told to have broken off, though no gateway may run to say so."""
    if row.state == State.WRITING and row.beat_at and row.beat_at < timezone.now() - GONE:
        here = ChatAnswer.objects.filter(pk=row.pk, state=row.state, beat_at=row.beat_at)
        here.update(state=State.FAILED, trouble=BROKEN)
        row.refresh_from_db()
    return row


def _uuid(given: dict[str, Any], name: str) -> UUID:
    try:
        return UUID(given[name])
    except (KeyError, ValueError, AttributeError, TypeError):
        raise bad(name, "must be a UUID") from None


def _flag(given: dict[str, Any], name: str) -> bool:
    found = given.get(name, False)
    if not isinstance(found, bool):
        raise bad(name, "must be true or false")
    return found


def _clean(said: Any) -> Any:
    """Without a character that PostgreSQL has not."""
    if isinstance(said, str):
        return said.replace("\0", "")
    if isinstance(said, list):
        return [_clean(one) for one in said]
    if isinstance(said, dict):
        return {key: _clean(one) for key, one in said.items()}
    return said
