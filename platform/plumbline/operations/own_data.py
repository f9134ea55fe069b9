"""All that is kept of one person, for that person: one JSON object, written while it is read.

Each part is a list whose rows are read in pages, so memory stays bounded and a slow download holds
no lock. What only proves who somebody is stays here: digests, secrets, keys of sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.db.models import Model, Q, QuerySet

from plumbline.accounts.models import (
    ApiKey,
    Membership,
    Project,
    SecondFactorReset,
    User,
    Visit,
)
from plumbline.audit.models import AuditEntry
from plumbline.collect.models import Ballot, Draft, Enrolment, Flag
from plumbline.gateway import chat, ids
from plumbline.gateway.models import (
    ChatAnswer,
    ClientComparison,
    Exchange,
    Feedback,
    StoredCompletion,
)
from plumbline.loop.models import Retraction, SavedView
from plumbline.operations.models import Farewell

PAGE = 500  # rows
ACCOUNT = (
    *("id", "username", "first_name", "last_name", "email", "kind", "date_joined", "last_login"),
    *("preferences", "is_active", "is_staff", "is_superuser"),
)
SAID = (
    *("name", "project__name", "comment", "consent_train", "comparison", "created_at"),
    *("completion_id", "choice", "key", "score", "value", "correction", "by_link"),
)
VOTE = (
    *("id", "comparison", "comparison__campaign__name", "revision", "shown", "settings_version"),
    *("claimed_at", "cast_at", "outcome", "ranking", "strength", "probability", "mark", "ratings"),
    *("corrections", "spans", "reasons", "reason", "comment", "active_ms"),
)
# Of rows that merely name the person as who made or changed them: those of these that they have.
TOLD = (
    *("name", "number", "filename", "reason", "resolution", "undone_reason", "count", "day"),
    *("at", "created_at", "month"),
)


@dataclass(frozen=True)
class Part:
    """Rows of one kind that are a person's, with the fields that are told."""

    rows: Callable[[User], QuerySet[Any]]
    fields: tuple[str, ...]


def _of(model: type[Model], field: str) -> Callable[[User], QuerySet[Any]]:
    return lambda user: model._default_manager.filter(**{field: user})


def _kept_texts(user: User) -> QuerySet[StoredCompletion]:
    """Of the chat page; they are kept under a name that only the server can make."""
    theirs = Q(pk=None)
    for project in Project.objects.values_list("pk", flat=True):
        theirs |= Q(project=project, end_user=ids.end_user(project, chat.member(user)))
    return StoredCompletion.objects.filter(theirs)


def _retracted(user: User) -> QuerySet[Retraction]:
    return Retraction.objects.filter(Q(annotator=user) | Q(ballot__annotator=user))


PARTS: dict[str, Part] = {
    "addresses": Part(_of(EmailAddress, "user"), ("email", "verified")),
    "memberships": Part(_of(Membership, "user"), ("project__name", "role")),
    "sessions": Part(_of(Visit, "user"), ("address", "agent", "at")),
    "second_factors": Part(_of(Authenticator, "user"), ("type", "created_at", "last_used_at")),
    "second_factor_resets": Part(_of(SecondFactorReset, "user"), ("reason", "at")),
    "api_keys": Part(
        _of(ApiKey, "created_by"),
        ("name", "prefix", "project__name", "scopes", "created_at", "last_used_at", "revoked_at"),
    ),
    "enrolments": Part(
        _of(Enrolment, "user"),
        ("campaign__name", "joined_at", "trained_at", "paused_at", "pause_reason")
        + ("excluded_at", "left_at", "votes", "tests"),
    ),
    "votes": Part(_of(Ballot, "annotator"), VOTE),
    "drafts": Part(_of(Draft, "ballot__annotator"), ("ballot", "fields", "saved_at")),
    "flags": Part(
        _of(Flag, "ballot__annotator"),
        ("ballot", "reason", "words", "raised_at", "resolved_at", "resolution"),
    ),
    "retracted_votes": Part(
        _retracted, ("project__name", "ballot", "reason", "at", "undone_at", "undone_reason")
    ),
    "feedback": Part(_of(Feedback, "user"), SAID),
    "own_comparisons": Part(
        _of(ClientComparison, "user"),
        ("name", "project__name", "messages", "responses", "ranking", "comment", "created_at"),
    ),
    "chat_answers": Part(
        _of(ChatAnswer, "user"),
        ("completion_id", "project__name", "asked", "text", "state", "created_at"),
    ),
    "kept_texts": Part(
        _kept_texts,
        ("completion_id", "project__name", "messages", "answers", "created_at", "expires_at"),
    ),
    "requests": Part(
        _of(Exchange, "user"),
        ("completion_id", "project__name", "status", "prompt_tokens", "completion_tokens")
        + ("created_at",),
    ),
    "saved_views": Part(_of(SavedView, "owner"), ("name", "project__name", "query", "created_at")),
    "wishes_to_be_forgotten": Part(
        _of(Farewell, "user"), ("asked_at", "withdrawn_at", "withdraw_votes")
    ),
    "audit": Part(
        lambda user: AuditEntry.objects.filter(
            Q(who=f"user:{user.pk}") | Q(object=f"user:{user.pk}")
        ),
        ("number", "at", "who", "what", "object", "details"),
    ),
}
# Fields whose rows stand in a part already, and tables that only tie two others together.
IN_PARTS = {
    *((EmailAddress, "user"), (Membership, "user"), (Visit, "user"), (Authenticator, "user")),
    *((SecondFactorReset, "user"), (ApiKey, "created_by"), (Enrolment, "user")),
    *((Ballot, "annotator"), (Retraction, "annotator"), (Feedback, "user")),
    *((ClientComparison, "user"), (ChatAnswer, "user"), (Exchange, "user")),
    *((SavedView, "owner"), (Farewell, "user"), (Project, "members")),
}


def download(user: User) -> Iterator[str]:
    """The JSON, in pieces."""
    account = User.objects.filter(pk=user.pk).values(*ACCOUNT).get()
    yield f'{{"account": {_json(account)}'
    for name, part in PARTS.items():
        yield f',\n"{name}": ['
        yield from _list(part.rows(user), part.fields)
        yield "]"
    yield ',\n"named_in": {'
    for number, (label, rows, fields) in enumerate(_named_in(user)):
        yield f'{", " if number else ""}\n"{label}": ['
        yield from _list(rows, fields)
        yield "]"
    yield "}}\n"


def counts(user: User) -> list[tuple[str, int]]:
    """How many rows of each kind there are, for those that have any."""
    found = [(name.replace("_", " "), part.rows(user).count()) for name, part in PARTS.items()]
    return [(name, count) for name, count in found if count]


def _named_in(user: User) -> Iterator[tuple[str, QuerySet[Any], tuple[str, ...]]]:
    """Every other table that points at people, also those that came after this file: which rows,
    and what it was called, why and when."""
    for relation in User._meta.get_fields(include_hidden=True):
        if not relation.is_relation or not relation.auto_created:
            continue
        model, field = relation.related_model, relation.field  # type: ignore[union-attr]
        assert isinstance(model, type)
        assert issubclass(model, Model)
        if (model, field.name) in IN_PARTS or model._meta.auto_created:
            continue
        own = {one.name for one in model._meta.concrete_fields}
        told = tuple(name for name in TOLD if name in own)
        rows = model._default_manager.filter(**{field.name: user})
        yield f"{model._meta.label}.{field.name}", rows, ("pk", *told)


def _list(rows: QuerySet[Any], fields: tuple[str, ...]) -> Iterator[str]:
    """Rows as JSON with commas between, a page of them at a time."""
    last, first = None, True
    rows = rows.order_by("pk")
    while True:
        found = rows.filter(pk__gt=last) if last is not None else rows
        page = list(found.values("pk", *fields)[:PAGE])
        for row in page:
            last = row["pk"]
            told = {name.removesuffix("__name"): row[name] for name in fields}
            yield f"{'' if first else ','}\n{_json(told)}"
            first = False
        if len(page) < PAGE:
            return


def _json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
