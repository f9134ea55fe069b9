"""What client apps said of answers, and the texts that they asked to have kept.

Texts are kept only where the client says so: of an answer with `store: true`, of a person with
`consent_train: true`. They go when their time has come, or when the end user is to be forgotten.
"""

from __future__ import annotations

import uuid

from django.db import models

from plumbline.accounts.models import ApiKey, Project, User
from plumbline.collect.models import Comparison, Completion
from plumbline.policies.models import Policy


class StoredCompletion(models.Model):
    """The texts of an answered request whose client asked to store them, until `expires_at`."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="stored_completions")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    completion_id = models.CharField(max_length=80, unique=True)
    messages = models.JSONField()
    answers = models.JSONField()  # by choice: text, finish_reason
    metadata = models.JSONField(default=dict)  # the client's own
    end_user = models.CharField(max_length=64, blank=True)  # of ids.end_user
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        indexes = [models.Index(fields=["project", "end_user"], name="stored_by_end_user")]

    def __str__(self) -> str:
        return self.completion_id


class Said(models.Model):
    """What a client says, under a name it may choose: said again it is the same, once.

    It is never a vote. With texts and consent it may become a comparison, which people answer
    without knowing any of this.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    name = models.CharField(max_length=100)
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="+")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")  # on the chat page
    comment = models.TextField(blank=True)
    end_user = models.CharField(max_length=64, blank=True)  # of ids.end_user
    consent_train = models.BooleanField(default=False)
    digest = models.CharField(max_length=64)  # SHA-256 of all that was said
    comparison = models.ForeignKey(Comparison, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Feedback(Said):
    """A signal on one answer. `key` names it: thumbs, rating, regenerated, copied, edited..."""

    completion_id = models.CharField(max_length=80, db_index=True)
    choice = models.PositiveSmallIntegerField(default=0)  # which, of an answer with several
    key = models.CharField(max_length=40)
    score = models.FloatField(null=True)
    value = models.JSONField(null=True)  # a string, a number, true or false
    correction = models.TextField(blank=True)  # the answer as it should have been
    other = models.CharField(max_length=80, blank=True)  # regenerated: the answer that followed
    by_link = models.BooleanField(default=False)  # a browser said it, through a signed link

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_feedback_a_name")
        ]
        indexes = [models.Index(fields=["project", "end_user"], name="feedback_by_end_user")]


class ClientComparison(Said):
    """Answers that a client app had compared itself. `ranking`: groups of indices, best first."""

    messages = models.JSONField(default=list)  # []: those of the stored answers
    responses = models.JSONField()  # text, or completion_id and choice
    ranking = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_client_comparison_a_name")
        ]
        indexes = [models.Index(fields=["project", "end_user"], name="comparisons_by_end_user")]


class ServedAnswer(models.Model):
    """A stored answer that was put before people, as the completion it became."""

    name = models.CharField(max_length=80)  # the `completion_id` that the client got
    choice = models.PositiveSmallIntegerField()
    completion = models.ForeignKey(Completion, models.CASCADE, related_name="served")
    end_user = models.CharField(max_length=64, blank=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "choice"], name="one_served_answer")]

    def __str__(self) -> str:
        return f"{self.name}[{self.choice}]"


class ShadowPair(models.Model):
    """An answer that a client got and the one that a shadow wrote to the same request, both stored,
    with consent to learn from them. People may be asked which is better."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    served = models.CharField(max_length=80, unique=True)  # names of the two stored completions
    shadow = models.CharField(max_length=80)
    end_user = models.CharField(max_length=64, blank=True)  # of ids.end_user
    comparison = models.ForeignKey(Comparison, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        indexes = [models.Index(fields=["project", "end_user"], name="shadows_by_end_user")]

    def __str__(self) -> str:
        return f"{self.served} and {self.shadow}"
