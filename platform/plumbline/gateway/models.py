"""What client apps asked and which immutable policy answered. Texts are not kept."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import ApiKey, Project, User
from plumbline.policies.models import Policy


class Exchange(models.Model):
    """One served request; `completion_id` is the id the client got, for feedback to refer to. It
    ends like the request's `x-request-id`; `client_request_id` is the client's own id of it. What
    a member asked on the chat page is of that `user` and of no key; a shadow's answer, which no
    client got, is of neither."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="exchanges")
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="exchanges")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="exchanges")
    completion_id = models.CharField(max_length=80, unique=True)
    client_request_id = models.CharField(max_length=128, blank=True)
    asked_for = models.CharField(max_length=120)  # the alias or policy name in the request
    status = models.PositiveSmallIntegerField()
    streamed = models.BooleanField(default=False)
    shadow = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    latency_ms = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["project", "asked_for", "created_at"], name="exchange_by_name")
        ]

    def __str__(self) -> str:
        return self.completion_id


class Usage(models.Model):
    """Exchanges of one day, counted: by key or chatting member, policy and how long they took.

    Written in the transaction that writes the exchanges, so it agrees with them always. `bucket` is
    the latency's place on a scale of `plumbline.gateway.usage`; sums over it are the day's figures,
    and its counts give the percentiles.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="usage")
    api_key = models.ForeignKey(ApiKey, models.CASCADE, null=True, related_name="usage")
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="+")
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="usage")
    day = models.DateField()  # UTC
    bucket = models.PositiveSmallIntegerField()
    requests = models.PositiveBigIntegerField()
    errors = models.PositiveBigIntegerField()
    prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["api_key", "day", "policy", "bucket"], name="one_usage_row"
            ),
            models.UniqueConstraint(
                fields=["user", "day", "policy", "bucket"], name="one_usage_row_a_member"
            ),
            models.CheckConstraint(
                condition=Q(api_key=None) ^ Q(user=None), name="usage_is_of_a_key_or_a_member"
            ),
        ]
        indexes = [models.Index(fields=["project", "day"])]

    def __str__(self) -> str:
        return f"{self.requests} requests on {self.day}"


from plumbline.gateway.chat_models import ChatAnswer as ChatAnswer  # noqa: E402  # for Django
from plumbline.gateway.feedback_models import ClientComparison as ClientComparison  # noqa: E402
from plumbline.gateway.feedback_models import Feedback as Feedback  # noqa: E402  # for Django
from plumbline.gateway.feedback_models import ServedAnswer as ServedAnswer  # noqa: E402
from plumbline.gateway.feedback_models import ShadowPair as ShadowPair  # noqa: E402
from plumbline.gateway.feedback_models import StoredCompletion as StoredCompletion  # noqa: E402
