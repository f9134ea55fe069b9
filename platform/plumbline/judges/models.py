"""What models say of answers. Scores belong to one reward model and are never mixed across two."""

from __future__ import annotations

from django.db import models

from plumbline.collect.models import Completion
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
