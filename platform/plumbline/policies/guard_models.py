"""What is watched once an alias has moved, and what was seen. Guards end; none is deleted."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import User
from plumbline.policies.models import Deployment, Flip


class Guard(models.Model):
    """A live figure of an alias's policy that must not be worse than the previous policy's was.

    `minutes`: how far back requests count. `least`: how many are needed on either side, and how
    many more before it is looked at again. `margin`: a difference below which nothing happens, of
    shares in points of one, of latency and length as a share of the median before.
    """

    class Metric(models.TextChoices):
        ERRORS = "errors", "Requests that failed"
        DOWN = "down", "Thumbs down"
        EMPTY = "empty", "Empty answers"
        LATENCY = "latency", "Latency"
        LENGTH = "length", "Length of answers"

    deployment = models.ForeignKey(Deployment, models.CASCADE, related_name="guards")
    metric = models.CharField(max_length=7, choices=Metric)
    minutes = models.PositiveIntegerField(default=1440)
    least = models.PositiveIntegerField(default=100)
    margin = models.FloatField(default=0.0)
    tell_only = models.BooleanField(default=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["metric"]
        constraints = [
            models.UniqueConstraint(
                fields=["deployment", "metric"],
                condition=Q(ended_at=None),
                name="one_guard_a_metric",
            ),
            models.CheckConstraint(
                condition=Q(minutes__gte=1, least__gte=1, margin__gte=0), name="guard_makes_sense"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.metric} of {self.deployment}"


class Look(models.Model):
    """One test of a guard after one move of its alias. Append-only but for `acted` and `trouble`.

    `seen`: requests of the new policy since the move, by which the next look is due. The alarm is
    `p_value` at most `level` with a difference of the guard's margin.
    """

    guard = models.ForeignKey(Guard, models.CASCADE, related_name="looks")
    flip = models.ForeignKey(Flip, models.CASCADE, related_name="looks")
    number = models.PositiveIntegerField()
    seen = models.PositiveIntegerField()
    p_value = models.FloatField(null=True)  # None: too few requests before the move
    level = models.FloatField()
    alarm = models.BooleanField(default=False)
    acted = models.BooleanField(default=False)  # the alias was rolled back for it
    trouble = models.CharField(max_length=300, blank=True)  # why it could not be
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["guard", "flip", "number"], name="one_look_a_number")
        ]

    def __str__(self) -> str:
        return f"{self.guard}, look {self.number}"
