"""Policies and reward models are immutable folders with a manifest; aliases point at them."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q

from align.jobs import ModelRef
from plumbline.accounts.models import ApiKey, Project, User


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
    """An alias that clients ask for ("current") and the policy it points at.

    A share of the requests may go to a canary. Of another share, with their clients' consent and by
    the keys in `shadow_keys`, a shadow writes an answer that no client sees.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="deployments")
    alias = models.SlugField(default="current")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="deployments")
    previous = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    canary = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    canary_share = models.FloatField(default=0.0)
    shadow = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    shadow_share = models.FloatField(default=0.0)
    shadow_keys = models.ManyToManyField(ApiKey, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "alias"], name="one_alias"),
            models.CheckConstraint(
                condition=Q(canary_share__range=(0, 1)) & (Q(canary_share=0) | ~Q(canary=None)),
                name="canary_share_is_a_share",
            ),
            models.CheckConstraint(
                condition=Q(canary=None) | ~Q(canary=F("policy")), name="canary_is_another_policy"
            ),
            models.CheckConstraint(
                condition=Q(shadow_share__range=(0, 1)) & (Q(shadow_share=0) | ~Q(shadow=None)),
                name="shadow_share_is_a_share",
            ),
            models.CheckConstraint(
                condition=Q(shadow=None) | ~Q(shadow=F("policy")), name="shadow_is_another_policy"
            ),
        ]

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


class RouteChange(models.Model):
    """Audit of every change of an alias's canary or shadow, and of an objective: who, why, from
    what to what. Append-only, as `Flip` is."""

    class What(models.TextChoices):
        CANARY = "canary", "Canary"
        SHADOW = "shadow", "Shadow"
        OBJECTIVE = "objective", "Objective"

    project = models.ForeignKey(Project, models.CASCADE, related_name="route_changes")
    what = models.CharField(max_length=10, choices=What)
    name = models.CharField(max_length=50)  # of the alias, or the objective
    before = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    before_share = models.FloatField(default=0.0)
    after = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    after_share = models.FloatField(default=0.0)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    reason = models.CharField(max_length=300)
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.what} of {self.name}: {self.before} -> {self.after}"

    @property
    def before_percent(self) -> float:
        return 100 * self.before_share

    @property
    def after_percent(self) -> float:
        return 100 * self.after_share


class Objective(models.Model):
    """A name that clients may weigh against others ("helpful"), and the policy best at it."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="objectives")
    name = models.SlugField(max_length=40)
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="objectives")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_objective")]

    def __str__(self) -> str:
        return f"{self.project.slug}/{self.name}"


class Mixture(models.Model):
    """A weighted average of policies that clients asked for, from its wish to its policy."""

    class State(models.TextChoices):
        MAKING = "making", "Being made"
        READY = "ready", "Ready"
        AWAY = "away", "Put away"
        FAILED = "failed", "Failed"

    project = models.ForeignKey(Project, models.CASCADE, related_name="mixtures")
    recipe = models.CharField(max_length=64)  # SHA-256 of the parts
    parts = models.JSONField()  # policy id -> twentieths
    state = models.CharField(max_length=10, choices=State, default=State.MAKING)
    job = models.UUIDField(null=True)  # that averages; None where its policy is there already
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    error = models.TextField(blank=True)
    used_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-used_at"]
        constraints = [models.UniqueConstraint(fields=["project", "recipe"], name="one_mixture")]

    def __str__(self) -> str:
        return f"mixture {self.recipe[:8]} of {self.project.slug}"


class Loan(models.Model):
    """The engine's memory is lent to a job's attempt. While there is such a row, the gateway lets
    no request through to the engine; `fleet/lending.py` writes and removes them."""

    job = models.UUIDField()
    epoch = models.PositiveIntegerField()
    given_back = models.BooleanField(default=False)  # the attempt is over, or does without
    since = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"lent to {self.job}"


class Reload(models.Model):
    """Some process changes the engines' weights. While there is such a row and its time is not
    over, the gateway lets no request through; `policies/seats.py` writes, renews and removes it."""

    only = models.PositiveSmallIntegerField(default=1, unique=True, editable=False)  # one at a time
    until = models.DateTimeField()  # on the database's clock
    since = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"weights change until {self.until:%H:%M:%S}"


from plumbline.policies.guard_models import Guard as Guard  # noqa: E402  # for Django
from plumbline.policies.guard_models import Look as Look  # noqa: E402
