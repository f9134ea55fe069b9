"""Which judges work in a round, as they were when it began, and to whom its comparisons went."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from plumbline.collect.models import Comparison
from plumbline.judges import triage
from plumbline.judges.models import Calibration, JudgeVersion


class RoundJudge(models.Model):
    """A version that works in a round, pinned when the round began and never changed by it.

    `weight` is its part of the labellers' mix, `logit p = sum w logit p'`; `calibration` turned its
    word into p', None where its word is taken as it is.
    """

    class Role(models.TextChoices):
        LABEL = "label", "Labels"
        EVALUATE = "evaluate", "Evaluates"

    round = models.ForeignKey("loop.Round", models.CASCADE, related_name="judges")
    version = models.ForeignKey(JudgeVersion, models.PROTECT, related_name="+")
    role = models.CharField(max_length=8, choices=Role)
    weight = models.FloatField(default=1.0)
    calibration = models.ForeignKey(Calibration, models.PROTECT, null=True, related_name="+")
    sha256 = models.CharField(max_length=64)  # the version's, as it was

    class Meta:
        ordering = ["role", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["round", "role", "version"], name="one_judge_a_round_and_role"
            ),
            models.UniqueConstraint(
                fields=["round"], condition=Q(role="evaluate"), name="one_evaluator_a_round"
            ),
            models.CheckConstraint(condition=Q(weight__gte=0), name="judge_weighs_nothing_or_more"),
        ]

    def __str__(self) -> str:
        return f"{self.version} in {self.round}"


class Sent(models.Model):
    """To whom a comparison of a judged round went, and why. `p` is the judges' calibrated chance
    that slot 0 is better, None while they have not spoken, or where they said nothing."""

    class To(models.TextChoices):
        PEOPLE = triage.PEOPLE, "People"
        JUDGE = triage.JUDGE, "The judge"
        NOBODY = triage.NOBODY, "Nobody"

    round = models.ForeignKey("loop.Round", models.CASCADE, related_name="sent")
    comparison = models.OneToOneField(Comparison, models.CASCADE, related_name="sent")
    to = models.CharField(max_length=6, choices=To)
    why = models.CharField(max_length=12)  # of judges/triage.py
    p = models.FloatField(null=True)
    consistent = models.BooleanField(default=False)

    class Meta:
        ordering = ["comparison"]

    def __str__(self) -> str:
        return f"{self.comparison_id} to {self.to}: {self.why}"
