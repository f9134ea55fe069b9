"""What people decide about policies and about the votes that made them. Nothing here is deleted."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot
from plumbline.policies.models import Policy


class Decision(models.Model):
    """A word on a candidate that moves no alias: moves are `policies.Flip`. Append-only."""

    class What(models.TextChoices):
        HOLD = "hold", "Held"
        RESUME = "resume", "No longer held"
        REJECT = "reject", "Rejected"

    policy = models.ForeignKey(Policy, models.CASCADE, related_name="decisions")
    what = models.CharField(max_length=6, choices=What)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    reason = models.CharField(max_length=300)
    evidence = models.JSONField(default=dict)  # what was known at that moment
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.what} {self.policy_id}"


class Retraction(models.Model):
    """One vote, or all that a person says in a project, is to train nothing any more.

    The votes stay as they were cast. It may be undone until a rebuild has gone by it (`used_at`).
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="retractions")
    ballot = models.ForeignKey(Ballot, models.CASCADE, null=True, related_name="retractions")
    annotator = models.ForeignKey(User, models.PROTECT, null=True, related_name="retractions")
    reason = models.CharField(max_length=300)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True)
    undone_at = models.DateTimeField(null=True)
    undone_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    undone_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ballot=None) ^ Q(annotator=None), name="retracts_a_vote_or_a_person"
            ),
            models.CheckConstraint(
                condition=Q(used_at=None) | Q(undone_at=None), name="used_is_not_undone"
            ),
            models.UniqueConstraint(
                fields=["ballot"],
                condition=Q(undone_at=None, ballot__isnull=False),
                name="vote_retracted_once",
            ),
            models.UniqueConstraint(
                fields=["project", "annotator"],
                condition=Q(undone_at=None, annotator__isnull=False),
                name="person_retracted_once",
            ),
        ]

    def __str__(self) -> str:
        return f"retraction {self.pk}"


class Rebuild(models.Model):
    """An experiment whose rounds replay those of another one without retracted votes.

    A rebuilt round has the number of the one it replays (`Round.replays`), so that whatever is
    drawn by the experiment's seed and the round's number is drawn again.
    """

    experiment = models.OneToOneField("loop.Experiment", models.CASCADE, related_name="rebuild")
    of = models.ForeignKey("loop.Experiment", models.PROTECT, related_name="rebuilds")
    numbers = models.JSONField()  # of the rounds to replay, in order
    retractions = models.ManyToManyField(Retraction, related_name="rebuilds")
    reason = models.CharField(max_length=300)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"rebuild of {self.of}"
