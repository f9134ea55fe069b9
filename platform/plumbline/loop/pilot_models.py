"""Autopilot: the budget and stop rules of an experiment, what it decided, and who changed it."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import User


class Autopilot(models.Model):
    """What bounds the rounds that an experiment begins by itself. An experiment without a row
    begins them up to its number of rounds; with one that is off, each waits for a person."""

    experiment = models.OneToOneField("loop.Experiment", models.CASCADE, related_name="pilot")
    on = models.BooleanField(default=True)
    version = models.PositiveIntegerField(default=1)  # of the settings; decisions name theirs
    most_votes = models.PositiveIntegerField(null=True)  # of all rounds together, as the next two
    most_gpu_hours = models.FloatField(null=True)
    most_money = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    no_gain_rounds = models.PositiveSmallIntegerField(default=2)  # in a row; 0: do not look
    most_kl = models.FloatField(null=True)  # nats a sequence to the base, where a round begins
    noise_floor = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(most_gpu_hours=None) | Q(most_gpu_hours__gte=0))
                & (Q(most_money=None) | Q(most_money__gte=0))
                & (Q(most_kl=None) | Q(most_kl__gte=0)),
                name="pilot_budget_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"Autopilot of {self.experiment_id}: {'on' if self.on else 'off'}"


class PilotDecision(models.Model):
    """Whether a next round was begun after a round, by the settings of one version, and why:
    `checks` hold a sentence each. One for a round and a version; never edited."""

    experiment = models.ForeignKey("loop.Experiment", models.CASCADE, related_name="decisions")
    round = models.ForeignKey("loop.Round", models.CASCADE, related_name="decisions")
    version = models.PositiveIntegerField()
    goes_on = models.BooleanField()
    checks = models.JSONField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["round", "version"], name="one_decision_a_version")
        ]

    def __str__(self) -> str:
        return f"After {self.round_id}: {'on' if self.goes_on else 'stop'}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        assert self._state.adding, "a decision is never edited"
        super().save(*args, **kwargs)

    @property
    def stops(self) -> list[dict[str, Any]]:
        """The checks that stopped it."""
        return [one for one in self.checks if one["stops"]]


class PilotChange(models.Model):
    """Audit of every change of an experiment's autopilot: who, when, from what to what.
    Append-only."""

    experiment = models.ForeignKey("loop.Experiment", models.CASCADE, related_name="pilot_changes")
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"Autopilot of {self.experiment_id} changed"

    def save(self, *args: Any, **kwargs: Any) -> None:
        assert self._state.adding, "an audit row is never edited"
        super().save(*args, **kwargs)
