"""Policies and reward models are immutable folders with a manifest; aliases point at them."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from align.jobs import ModelRef
from plumbline.accounts.models import Project, User


class Policy(models.Model):
    """A base model, plus a LoRA adapter or full weights. `name` is what engines and clients call
    it; it is never reused for other weights."""

    class Weights(models.TextChoices):
        BASE = "base", "Base model"
        LORA = "lora", "LoRA adapter"
        FULL = "full", "Full weights"

    class State(models.TextChoices):
        CANDIDATE = "candidate", "Candidate"
        PROMOTED = "promoted", "Promoted"
        REJECTED = "rejected", "Rejected"
        MIXTURE = "mixture", "Average of others"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, models.CASCADE, related_name="policies")
    name = models.CharField(max_length=120, unique=True)
    weights = models.CharField(max_length=4, choices=Weights)
    base_model = models.CharField(max_length=500)  # folder of the base model on the workers
    path = models.CharField(max_length=500, blank=True)  # committed weights folder; "" for a base
    sha256 = models.CharField(max_length=64, blank=True)  # of its manifest
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")
    algorithm = models.CharField(max_length=40, blank=True)
    knobs = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State, default=State.CANDIDATE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(weights="base", path="") | ~Q(weights="base") & ~Q(path=""),
                name="policy_has_weights_unless_base",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> ModelRef:
        """Where the weights are, for a job."""
        if self.weights == self.Weights.FULL:
            return ModelRef(base=self.path)
        return ModelRef(base=self.base_model, adapter=self.path or None)


class RewardModel(models.Model):
    """Trained on people's ballots; scores of different reward models are never compared."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, models.CASCADE, related_name="reward_models")
    name = models.CharField(max_length=120, unique=True)
    objective = models.CharField(max_length=40)
    path = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64)
    ballots_used = models.PositiveIntegerField()
    accuracy = models.FloatField(null=True)  # on held-out comparisons
    temperature = models.FloatField(default=1.0)  # what makes differences of scores log-odds
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name


class Deployment(models.Model):
    """An alias that clients ask for ("current") and the policy it points at."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="deployments")
    alias = models.SlugField(default="current")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="deployments")
    previous = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "alias"], name="one_alias")]

    def __str__(self) -> str:
        return f"{self.project.slug}/{self.alias}"


class Flip(models.Model):
    """Audit of every move of an alias: who or what, why, and on which evidence. Append-only."""

    deployment = models.ForeignKey(Deployment, models.CASCADE, related_name="flips")
    before = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    after = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    reason = models.CharField(max_length=300)
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.deployment_id}: {self.before} -> {self.after}"


class Loan(models.Model):
    """The engine's memory is lent to a job's attempt. While there is such a row, the gateway lets
    no request through to the engine; `fleet/lending.py` writes and removes them."""

    job = models.UUIDField()
    epoch = models.PositiveIntegerField()
    given_back = models.BooleanField(default=False)  # the attempt is over, or does without
    since = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"lent to {self.job}"
