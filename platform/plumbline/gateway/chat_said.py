"""What a member says of answers on the chat page: the same feedback and comparisons as clients'.

It is checked by `said`, stored by `taking`, in the member's name. Until people are asked because of
it, it may be said anew or taken back: a browser's button is pressed by mistake more easily than a
program sends what it does not mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from plumbline.accounts.models import Project, User
from plumbline.gateway import said, taking
from plumbline.gateway.chat import member
from plumbline.gateway.chat_models import ChatAnswer
from plumbline.gateway.models import ClientComparison, Feedback
from plumbline.gateway.taking import Speaker
from plumbline.gateway.wire import ApiError, bad

RANKINGS = {"first": [0, 1], "second": [1, 0], "tie": [[0, 1]]}
BAD = "bad"  # both of them: a word on each, as no order tells it
THUMBS, BOTH_BAD, COPIED, STOPPED = "thumbs", "both_bad", "copied", "stopped"


@transaction.atomic
def thumb(row: ChatAnswer, given: dict[str, Any]) -> None:
    """`score` 1 or 0 with an optional `comment` and `correction`; without a score what was said is
    taken back. Raises ApiError."""
    words = {name: given[name] for name in ("score", "comment", "correction") if given.get(name)}
    score = given.get("score")
    if score not in (0, 1, None) or isinstance(score, bool):
        raise bad("score", "must be 1, 0 or null")
    _lock([row])
    taking.withdraw(Feedback, _speaker(row), _name(row, THUMBS))
    if score is not None:
        _say(row, THUMBS, {**words, "score": score})


def done(row: ChatAnswer, key: str) -> None:
    """A thing that the member did: weak evidence, once an answer."""
    _say(row, key, {"value": True})


def regenerated(user: User, project: Project, before: UUID, after: ChatAnswer) -> None:
    """The member had another answer written instead; nothing where the first one is gone."""
    mine = ChatAnswer.objects.filter(user=user, project=project, pk=before)
    row = mine.filter(state=ChatAnswer.State.DONE).exclude(turn=after.turn).first()
    if (
        row is not None
        and not Feedback.objects.filter(project=project, name=_name(row, said.REGENERATED)).exists()
    ):
        _say(row, said.REGENERATED, {"value": after.completion_id})


@transaction.atomic
def verdict(user: User, project: Project, turn: UUID, word: object) -> list[ChatAnswer]:
    """Which of a turn's two answers is better, by their places: `first`, `second`, `tie`, or that
    both are `bad`; None takes it back. Who wrote them is no secret afterwards."""
    found = ChatAnswer.objects.filter(user=user, project=project, turn=turn).order_by("place")
    rows = list(found.select_for_update(of=("self",)))
    if len(rows) != 2:
        raise ApiError(404, "These answers are no longer here; new ones can be judged.")
    if any(row.state != ChatAnswer.State.DONE for row in rows):
        raise ApiError(409, "Both answers must have come to their ends before they are compared.")
    if word not in (*RANKINGS, BAD, None):
        raise bad("verdict", "must be first, second, tie, bad or null")
    speaker, name = _speaker(rows[0]), f"chat-{turn.hex}"
    taking.withdraw(ClientComparison, speaker, name)
    for row in rows:
        taking.withdraw(Feedback, speaker, _name(row, BOTH_BAD))
    if word is None:
        return rows
    if word == BAD:
        for row in rows:
            _say(row, BOTH_BAD, {"score": 0})
    else:
        compared = {
            "comparison_id": name,
            "responses": [{"completion_id": row.completion_id} for row in rows],
            "ranking": RANKINGS[str(word)],
            "consent_train": all(row.keep for row in rows),
            "end_user": member(user),
        }
        given, columns = said.comparison(json.dumps(compared).encode(), project.pk)
        taking.comparison(speaker, given, columns)
    ChatAnswer.objects.filter(pk__in=[row.pk for row in rows]).update(blind=False)
    return list(found.select_related("policy"))


def _say(row: ChatAnswer, key: str, words: dict[str, Any]) -> None:
    sent = {
        "completion_id": row.completion_id,
        "feedback_id": _name(row, key),
        "key": key,
        "consent_train": row.keep,
        "end_user": member(row.user),
        **words,
    }
    name, columns = said.feedback(json.dumps(sent).encode(), row.project_id)
    taking.feedback(_speaker(row), name, columns)


def _lock(rows: Sequence[ChatAnswer]) -> None:
    """Two tabs speak of an answer one after the other."""
    wanted = [row.pk for row in rows]
    list(ChatAnswer.objects.filter(pk__in=wanted).order_by("pk").select_for_update(of=("self",)))


def _speaker(row: ChatAnswer) -> Speaker:
    return Speaker(row.project_id, user=row.user_id)


def _name(row: ChatAnswer, key: str) -> str:
    return f"chat-{row.pk.hex}-{key}"
