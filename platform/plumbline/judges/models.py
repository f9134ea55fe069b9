"""Models and programs that judge answers, and what they say of them.

A judge's version is immutable: all that its word depends on is in `settings` and hashed, so a round
that pins the hash knows who labelled it. Scores and verdicts belong to one version and are never
mixed across two.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q

from align.manners import LIMITS
from plumbline.accounts.models import Project, User
from plumbline.collect.models import Campaign, Comparison, Completion
from plumbline.fleet.models import Job
from plumbline.policies.models import RewardModel


class Score(models.Model):
    completion = models.ForeignKey(Completion, models.CASCADE, related_name="scores")
    reward_model = models.ForeignKey(RewardModel, models.CASCADE, related_name="scores")
    value = models.FloatField()
    members = models.JSONField(default=list)  # each one's score of an ensemble, on one scale
    spread = models.FloatField(null=True)  # their standard deviation; None of a single model

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["completion", "reward_model"], name="one_score_a_model")
        ]

    def __str__(self) -> str:
        return f"{self.value:.3f}"


class Endpoint(models.Model):
    """An OpenAI-compatible API that a judge or a writer of programs asks. The key itself is never
    stored: `key_variable` names the environment variable of the workers that holds it."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="endpoints")
    name = models.CharField(max_length=80)
    url = models.CharField(max_length=300, blank=True)  # up to and with /v1; "": our own engine
    model = models.CharField(max_length=200)
    key_variable = models.CharField(max_length=80, blank=True)
    # Dollars a million tokens.
    price_in = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    price_out = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    # How it wants to be asked; jobs learn it from refusals, and it is kept here.
    limit = models.CharField(
        max_length=24,
        choices=[(one, one) for one in LIMITS],
        default=LIMITS[0],
        db_default=LIMITS[0],
    )
    own_temperature = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_endpoint_name")
        ]

    def __str__(self) -> str:
        return self.name


class Constitution(models.Model):
    """Principles that a judge holds answers against."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="constitutions")
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_constitution_name")
        ]

    def __str__(self) -> str:
        return self.name


class Principle(models.Model):
    constitution = models.ForeignKey(Constitution, models.CASCADE, related_name="principles")
    text = models.TextField()
    weight = models.FloatField(default=1.0)
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(weight__gt=0), name="principle_weighs_something")
        ]

    def __str__(self) -> str:
        return self.text[:80]


class Judge(models.Model):
    """Someone who compares answers and is not a person. `account` casts its ballots."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="judges")
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=40)  # a file of `judges/kinds`
    account = models.OneToOneField(User, models.PROTECT, null=True, related_name="judge")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_judge_name")]

    def __str__(self) -> str:
        return self.name


class JudgeVersion(models.Model):
    """All that a judge's word depends on, as it was; never edited."""

    judge = models.ForeignKey(Judge, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    settings = models.JSONField()  # the kind's, with prompts, principles and model as they were
    sha256 = models.CharField(max_length=64)  # of kind and settings
    # Of settings["endpoint"], where the kind asks one; its price and key may change, not its model.
    endpoint = models.ForeignKey(Endpoint, models.PROTECT, null=True, related_name="+")
    reward_model = models.ForeignKey(RewardModel, models.PROTECT, null=True, related_name="+")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["judge", "number"], name="one_judge_version_a_number"),
            models.UniqueConstraint(fields=["judge", "sha256"], name="one_judge_version_a_hash"),
        ]

    def __str__(self) -> str:
        return f"{self.judge}, version {self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        assert self._state.adding, "a version is never edited"
        super().save(*args, **kwargs)


class Verdict(models.Model):
    """What a version says of two answers to one prompt, `first` having the smaller id.

    `q_first` is P(it picks the answer shown first) with `first` shown first, `q_second` the same
    with `second` shown first. p(first > second) = (q_first + 1 - q_second) / 2, so that naming the
    answers in the other order gives 1 - p exactly. All are None where the judge gave no verdict in
    one order or the other: `error` says why, and there is no half of a verdict.
    """

    version = models.ForeignKey(JudgeVersion, models.CASCADE, related_name="verdicts")
    first = models.ForeignKey(Completion, models.CASCADE, related_name="+")
    second = models.ForeignKey(Completion, models.CASCADE, related_name="+")
    q_first = models.FloatField(null=True)
    q_second = models.FloatField(null=True)
    p = models.FloatField(null=True)
    consistent = models.BooleanField(null=True)  # both orders name the same answer
    detail = models.JSONField(default=dict)  # what it said: analysis, by principle, components
    tokens_in = models.PositiveIntegerField(default=0)
    tokens_out = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "first", "second"], name="one_verdict_a_version_and_pair"
            ),
            models.CheckConstraint(condition=Q(first__lt=F("second")), name="verdict_in_order"),
            models.CheckConstraint(
                condition=Q(p__isnull=True) | Q(p__gte=0, p__lte=1), name="verdict_in_range"
            ),
        ]

    def __str__(self) -> str:
        return "no verdict" if self.p is None else f"{self.p:.3f}"


class Asking(models.Model):
    """A job that asks a version about pairs, from the wish to its stored verdicts.

    `campaign`: where ballots are cast of what it says, when it has. `cost` is in dollars, at the
    prices of the time.
    """

    version = models.ForeignKey(JudgeVersion, models.CASCADE, related_name="askings")
    job = models.OneToOneField(Job, models.CASCADE, related_name="asking")
    pairs = models.PositiveIntegerField()
    campaign = models.ForeignKey(Campaign, models.SET_NULL, null=True, related_name="+")
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    gathered_at = models.DateTimeField(null=True)  # its verdicts are stored
    cost = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.version} on {self.pairs} pairs"


class Revising(models.Model):
    """A job that has answers criticised by a principle and written anew, and what came of it: a
    comparison of each revised answer with the original in `campaign`, with an AI ballot. Rounds
    learn from none of it until a researcher includes it."""

    version = models.ForeignKey(JudgeVersion, models.CASCADE, related_name="revisings")
    job = models.OneToOneField(Job, models.CASCADE, related_name="revising")
    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="+")
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    gathered_at = models.DateTimeField(null=True)
    included_at = models.DateTimeField(null=True)
    cost = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"revisions by {self.version}"


class Revision(models.Model):
    """An answer that a judge's model wrote anew after criticising the original by a principle."""

    revising = models.ForeignKey(Revising, models.CASCADE, related_name="revisions")
    original = models.ForeignKey(Completion, models.CASCADE, related_name="+")
    revised = models.OneToOneField(Completion, models.CASCADE, related_name="revision")
    comparison = models.OneToOneField(Comparison, models.CASCADE, related_name="revision")
    principle = models.TextField()  # as it was worded
    critique = models.TextField()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["revising", "original"], name="one_revision_an_original_and_job"
            )
        ]

    def __str__(self) -> str:
        return f"revision of {self.original_id}"


class Check(models.Model):
    """One question to an endpoint, to see that it answers."""

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="checks")
    job = models.OneToOneField(Job, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"check of {self.endpoint}"


from plumbline.judges.calibration_models import Attack as Attack  # noqa: E402  # for Django
from plumbline.judges.calibration_models import Calibration as Calibration  # noqa: E402
