"""What was said of answers, taken into the database: once under its name, however often it comes.

The API's endpoints (`feedback`) and the chat page both store through here. Everything raises
ApiError with a sentence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db import IntegrityError, transaction

from plumbline.gateway import ids
from plumbline.gateway.models import ClientComparison, Exchange, Feedback
from plumbline.gateway.wire import ApiError, bad

Row = TypeVar("Row", Feedback, ClientComparison)


@dataclass(frozen=True)
class Speaker:
    """Who says it: a key, perhaps through one of its links, or a member on the chat page."""

    project: int
    key: int | None = None
    user: int | None = None
    by_link: bool = False


def feedback(speaker: Speaker, name: str, columns: dict[str, Any]) -> dict[str, Any]:
    """A signal on an answer, as the API shows it. `columns` are of `said.feedback`."""
    project = speaker.project
    check(project, columns["completion_id"], "completion_id")
    if columns["other"]:
        check(project, columns["other"], "value")
        if columns["other"] == columns["completion_id"]:
            raise bad("value", "must be another answer than the one it replaced")
    row = Feedback(**_by(speaker), name=name, by_link=speaker.by_link, **columns)
    return feedback_json(_once(row, columns, "feedback_id"))


def comparison(speaker: Speaker, name: str, columns: dict[str, Any]) -> dict[str, Any]:
    """Answers that were compared, as the API shows it. `columns` are of `said.comparison`."""
    for i, one in enumerate(columns["responses"]):
        if "completion_id" in one:
            check(speaker.project, one["completion_id"], f"responses[{i}].completion_id")
    row = ClientComparison(**_by(speaker), name=name, **columns)
    return comparison_json(_once(row, columns, "comparison_id"))


def _by(speaker: Speaker) -> dict[str, Any]:
    return {
        "project_id": speaker.project,
        "api_key_id": speaker.key,
        "user_id": speaker.user,
    }


def _once(row: Row, columns: dict[str, Any], field: str) -> Row:
    """The row under its name, whoever wrote it first. Raises ApiError where it says otherwise."""
    row.digest = hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()
    model = type(row)
    kept: Row | None = find(model, row.project_id, row.name)
    if kept is None:
        try:
            with transaction.atomic():
                row.save(force_insert=True)
            return row
        except IntegrityError:  # the same, sent twice at once
            kept = find(model, row.project_id, row.name)
            if kept is None:
                raise
    if kept.digest != row.digest:
        said_before = f"{row.name!r} has been sent before, with other content."
        raise ApiError(409, said_before, param=field, code="idempotency_conflict")
    return kept


def withdraw(model: type[Row], speaker: Speaker, name: str) -> None:
    """Take back what a member said on the chat page, if it was said. Raises ApiError where people
    have been asked because of it: then it stays."""
    found = model._default_manager.filter(
        project=speaker.project, user=speaker.user, name=name
    ).select_for_update()
    row = found.first() if speaker.user is not None else None
    if row is None:
        return
    if row.comparison_id is not None:
        said = "People are already being asked about this, so what you said stays."
        raise ApiError(409, said, code="in_review")
    row.delete()


def find(model: type[Row], project: int, name: str) -> Row | None:
    return model._default_manager.filter(project=project, name=name).first()


def check(project: int, completion: str, param: str) -> None:
    """Raises ApiError for an answer that is not of the project. One whose row is still to be
    written is known by its name."""
    if not ids.belongs(completion, project) and not (
        Exchange.objects.filter(project=project, completion_id=completion).exists()
    ):
        raise unknown(completion, param)


def unknown(name: str, param: str | None) -> ApiError:
    return ApiError(404, f"{name!r} does not exist.", param=param, code="not_found")


def feedback_json(row: Feedback) -> dict[str, Any]:
    exchange = Exchange.objects.filter(completion_id=row.completion_id).select_related("policy")
    answered = exchange.first()
    return {
        "id": row.name,
        "object": "feedback",
        "created": _seconds(row.created_at),
        "completion_id": row.completion_id,
        "choice": row.choice,
        "model": answered.policy.name if answered else None,
        "key": row.key,
        "score": row.score,
        "value": row.value,
        "comment": row.comment or None,
        "correction": row.correction or None,
        "consent_train": row.consent_train,
        "in_review": row.comparison_id is not None,
    }


def comparison_json(row: ClientComparison) -> dict[str, Any]:
    return {
        "id": row.name,
        "object": "comparison",
        "created": _seconds(row.created_at),
        "messages": row.messages or None,
        "responses": row.responses,
        "tie_groups": row.ranking,
        "comment": row.comment or None,
        "consent_train": row.consent_train,
        "in_review": row.comparison_id is not None,
    }


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())
