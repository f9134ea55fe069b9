"""What client apps asked and which immutable policy answered. Texts are not kept."""

from __future__ import annotations

from django.db import models

from plumbline.accounts.models import ApiKey, Project
from plumbline.policies.models import Policy


class Exchange(models.Model):
    """One served request; `completion_id` is the id the client got, for feedback to refer to."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="exchanges")
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="exchanges")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="exchanges")
    completion_id = models.CharField(max_length=80, unique=True)
    asked_for = models.CharField(max_length=120)  # the alias or policy name in the request
    status = models.PositiveSmallIntegerField()
    streamed = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    latency_ms = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.completion_id
