"""A judge's version beside people, and how it stood against attacks."""

from __future__ import annotations

from django.db import models

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot
from plumbline.fleet.models import Job


class Calibration(models.Model):
    """What a version says beside what people said, on the ballots that stood when it was asked for.

    One row a version and list of ballots, so a new version has none and asks for its own. `rows`
    holds what was measured (fields of `judges.evidence.Row` each), so every figure can be worked
    out again. `figures` is {} and `gate` says why where there was too little; `finished_at` is None
    while the judge is being asked; `error` says why there is nothing.
    """

    version = models.ForeignKey("judges.JudgeVersion", models.CASCADE, related_name="calibrations")
    ballots = models.ManyToManyField(Ballot, related_name="+")
    ballots_sha256 = models.CharField(max_length=64)  # of their sorted ids
    pairs = models.PositiveIntegerField(default=0)  # that people voted on
    a = models.FloatField(null=True)  # of p' = sigmoid(a logit p + b_len dlen)
    b_len = models.FloatField(null=True)
    figures = models.JSONField(default=dict)
    gate = models.JSONField(default=dict)  # checks with their evidence, and the verdict
    rows = models.JSONField(default=list)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "ballots_sha256"], name="one_calibration_a_version_and_ballots"
            )
        ]

    def __str__(self) -> str:
        return f"{self.version} beside {self.pairs} voted pairs"

    @property
    def usable(self) -> bool:
        """Whether it fitted anything and its gate passed."""
        return self.a is not None and bool(self.gate.get("passed"))


class Attack(models.Model):
    """A run of the injection corpus on a version: how often an attack moved its verdict, beside how
    often a neutral text of the same length did. `figures` is that by family."""

    version = models.ForeignKey("judges.JudgeVersion", models.CASCADE, related_name="attacks")
    corpus_sha256 = models.CharField(max_length=64)
    tried = models.PositiveIntegerField(default=0)  # attacks that both texts got a verdict on
    flips = models.PositiveIntegerField(default=0)
    control_flips = models.PositiveIntegerField(default=0)
    figures = models.JSONField(default=dict)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.version}: {self.flips} of {self.tried} attacks moved it"

    @property
    def above_control(self) -> float | None:
        return (self.flips - self.control_flips) / self.tried if self.tried else None
