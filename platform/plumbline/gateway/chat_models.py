"""The answers of the chat page while policies write them, and shortly after."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import Project, User
from plumbline.policies.models import Policy

BROKEN = "The answer broke off. What you wrote is still here; try again."


class ChatAnswer(models.Model):
    """One answer that a member asked for on the chat page; the gateway writes it, under `writer`.

    What a browser shows was stored here before. What was asked goes when the writing begins, the
    text an hour after its end (`gateway.storing`): the conversation itself is in the browser. Two
    answers to the same words are of one `turn`; while it is `blind`, nobody is told who wrote them.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WRITING = "writing", "Writing"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        STOPPED = "stopped", "Stopped"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    turn = models.UUIDField()  # the browser's own, so that asking twice is asking once
    place = models.PositiveSmallIntegerField()  # on the screen
    asked_for = models.CharField(max_length=120)  # an alias, a policy or objectives
    asked = models.JSONField(null=True)  # the request, until somebody has taken it
    blind = models.BooleanField(default=False)
    keep = models.BooleanField(default=False)  # the person lets its texts be kept and learnt from
    completion_id = models.CharField(max_length=80, unique=True)
    policy = models.ForeignKey(Policy, models.CASCADE, null=True, related_name="+")
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    attempt = models.PositiveSmallIntegerField(default=1)
    writer = models.UUIDField(null=True)
    text = models.TextField(blank=True)
    finish_reason = models.CharField(max_length=12, blank=True)
    trouble = models.CharField(max_length=500, blank=True)  # a sentence
    tokens = models.PositiveIntegerField(null=True)
    first_ms = models.PositiveIntegerField(null=True)  # to the first word
    latency_ms = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    grown_at = models.DateTimeField(auto_now_add=True)
    beat_at = models.DateTimeField(null=True)  # its writer was there

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "turn", "place"], name="one_chat_answer_there")
        ]
        indexes = [
            models.Index(
                fields=["state"], condition=Q(state__in=["waiting", "writing"]), name="chat_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.completion_id}: {self.state}"

    @property
    def upto(self) -> int:
        """How much of it there is to see: code points, and one more when it has ended."""
        return len(self.text) + (self.state not in (self.State.WAITING, self.State.WRITING))
