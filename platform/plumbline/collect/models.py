"""What is compared, and what people said of it. Ballots are append-only: a change is a revision."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q

from plumbline.accounts.models import Project, User
from plumbline.policies.models import Policy


class PromptSet(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="prompt_sets")
    name = models.CharField(max_length=80)
    source = models.CharField(max_length=200, blank=True)
    licence = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_set_name")]

    def __str__(self) -> str:
        return self.name


class Prompt(models.Model):
    class Split(models.TextChoices):
        TRAIN = "train", "Training"
        HELDOUT = "heldout", "Held out"

    set = models.ForeignKey(PromptSet, models.CASCADE, related_name="prompts")
    messages = models.JSONField()
    split = models.CharField(max_length=7, choices=Split, default=Split.TRAIN)
    digest = models.CharField(max_length=64)  # SHA-256 of the canonical messages

    class Meta:
        constraints = [models.UniqueConstraint(fields=["set", "digest"], name="one_prompt_a_set")]
        indexes = [models.Index(fields=["set", "split"])]

    def __str__(self) -> str:
        return str(self.messages[-1]["content"])[:80]


class Completion(models.Model):
    """An answer. `policy` is None for imported text, whose writer `origin` names."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="completions")
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="completions")
    origin = models.CharField(max_length=120, blank=True)
    text = models.TextField()
    token_ids = models.JSONField(null=True)
    finish_reason = models.CharField(max_length=12, blank=True)  # stop, length; "" when imported
    sampling = models.JSONField(default=dict)
    batch = models.UUIDField(null=True)  # the sampling job
    draw = models.PositiveIntegerField(default=0)  # 0..n-1 within the prompt and the batch
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["batch", "prompt", "draw"], name="one_completion_a_draw"
            )
        ]
        indexes = [models.Index(fields=["prompt", "policy"])]

    def __str__(self) -> str:
        return self.text[:80]


class Campaign(models.Model):
    class Purpose(models.TextChoices):
        TRAIN = "train", "Training data"
        EVALUATE = "evaluate", "Evaluation"

    project = models.ForeignKey(Project, models.CASCADE, related_name="campaigns")
    name = models.CharField(max_length=120)
    guidelines = models.TextField(blank=True)  # markdown
    purpose = models.CharField(max_length=8, choices=Purpose, default=Purpose.TRAIN)
    settings_version = models.PositiveIntegerField(default=1)  # stamped on each ballot
    overlap = models.PositiveSmallIntegerField(default=1)  # people wanted a comparison
    lease_seconds = models.PositiveIntegerField(default=900)
    closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_campaign_name"),
            models.CheckConstraint(condition=Q(overlap__gte=1), name="overlap_at_least_one"),
        ]

    def __str__(self) -> str:
        return self.name


class Comparison(models.Model):
    """2..9 answers to one prompt, put before people. `why` is for researchers only."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="comparisons")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="comparisons")
    candidates = models.ManyToManyField(Completion, through="Candidate")
    priority = models.IntegerField(default=0)
    strategy = models.CharField(max_length=40, default="random")
    p_select = models.FloatField(default=1.0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "-priority", "id"])]

    def __str__(self) -> str:
        return f"comparison {self.pk}"


class Candidate(models.Model):
    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="slots")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="+")
    slot = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["slot"]
        constraints = [
            models.UniqueConstraint(fields=["comparison", "slot"], name="one_candidate_a_slot"),
            models.UniqueConstraint(
                fields=["comparison", "completion"], name="candidate_once_a_comparison"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.comparison_id}[{self.slot}]"


class Ballot(models.Model):
    """Claim and vote in one row.

    Shown = the row exists; abandoned = `expires_at` passed with no outcome; cast = `outcome` set.
    `ranking` lists tie groups of slots, best first: [[1], [0]] prefers slot 1, [[0, 1]] is a tie.
    `seat` (0..overlap-1) is held by a live claim or a standing vote, and the database keeps seats
    unique, so overlap is never exceeded. A later revision by the same person replaces the earlier.
    """

    class Outcome(models.TextChoices):
        RANKED = "ranked", "Ranked"
        ALL_BAD = "all_bad", "All bad"
        SKIPPED = "skipped", "Skipped"
        WITHDRAWN = "withdrawn", "Undone"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="ballots")
    annotator = models.ForeignKey(User, models.PROTECT, related_name="ballots")
    revision = models.PositiveIntegerField(default=1)
    revises = models.ForeignKey("self", models.PROTECT, null=True, related_name="+")
    seat = models.PositiveSmallIntegerField(null=True)
    shown = models.JSONField()  # slots in the order on the screen
    settings_version = models.PositiveIntegerField(default=1)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    cast_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=9, choices=Outcome, blank=True)
    ranking = models.JSONField(default=list)
    strength = models.PositiveSmallIntegerField(null=True)  # 1 slightly, 2 clearly, 3 much better
    # P(slot 0 beats slot 1) where the voter gave one, as AI judges do; it says more than `ranking`.
    probability = models.FloatField(null=True)
    reason = models.CharField(max_length=300, blank=True)
    comment = models.TextField(blank=True)
    active_ms = models.PositiveIntegerField(null=True)
    idempotency_key = models.UUIDField(null=True, unique=True)

    class Meta:
        ordering = ["-cast_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "annotator", "revision"], name="one_ballot_a_revision"
            ),
            models.UniqueConstraint(fields=["comparison", "seat"], name="one_ballot_a_seat"),
            models.CheckConstraint(
                condition=Q(outcome="", cast_at__isnull=True)
                | ~Q(outcome="") & Q(cast_at__isnull=False),
                name="cast_with_outcome",
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("claimed_at")), name="claim_lasts"),
            models.CheckConstraint(
                condition=Q(probability__isnull=True) | Q(probability__gte=0, probability__lte=1),
                name="probability_in_range",
            ),
        ]
        indexes = [models.Index(fields=["annotator", "-cast_at"])]

    def __str__(self) -> str:
        return f"{self.annotator_id} on {self.comparison_id}: {self.outcome or 'open'}"
