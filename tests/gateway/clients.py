"""A client app for tests: answers as the gateway names and stores them, and words about them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from plumbline.gateway import ids
from plumbline.gateway.models import ClientComparison, Exchange, Feedback, StoredCompletion
from plumbline.policies import serving

QUESTION = "What is the capital of France?"


def named(project: Any) -> str:
    """The name of an answer that the project's gateway gave, whose row is still to be written."""
    return ids.completion("chatcmpl", uuid.uuid4().hex, project.pk)


def stored(project: Any, *texts: str, question: str = QUESTION, user: str = "") -> StoredCompletion:
    """An answer that was served and stored, with a choice for each text."""
    policy, name = serving.base_policy(project), named(project)
    Exchange.objects.create(
        project=project, policy=policy, completion_id=name, status=200, latency_ms=1
    )
    return StoredCompletion.objects.create(
        project=project,
        policy=policy,
        completion_id=name,
        messages=[{"role": "user", "content": question}],
        answers=[{"text": text, "finish_reason": "stop"} for text in texts],
        end_user=ids.end_user(project.pk, user) if user else "",
        expires_at=timezone.now() + timedelta(days=1),
    )


def feedback(answer: StoredCompletion, key: str = "thumbs", **fields: Any) -> Feedback:
    fields = {"consent_train": True, "name": uuid.uuid4().hex, "digest": "0" * 64, **fields}
    return Feedback.objects.create(
        project=answer.project, completion_id=answer.completion_id, key=key, **fields
    )


def compared(project: Any, ranking: list[list[int]], *texts: str, **fields: Any) -> Any:
    fields = {"consent_train": True, "name": uuid.uuid4().hex, "digest": "0" * 64, **fields}
    return ClientComparison.objects.create(
        project=project,
        messages=[{"role": "user", "content": QUESTION}],
        responses=[{"text": text} for text in texts],
        ranking=ranking,
        **fields,
    )
