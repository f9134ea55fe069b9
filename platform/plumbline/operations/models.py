"""What operating leaves behind: signs of life, what verifications found, who was forgotten."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import User

WITHIN = timedelta(days=30)  # from a person's wish to be forgotten until it is carried out


class Sign(models.Model):
    """A process that says now and then that it lives. It decides nothing."""

    name = models.CharField(max_length=120, unique=True)  # what it is and where
    kind = models.CharField(max_length=20)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()  # on the database's clock

    def __str__(self) -> str:
        return self.name


class Verification(models.Model):
    """One run of `manage.py verify`. `findings`: fields of check.Finding; `checked`: by check, how
    many things were looked at."""

    started_at = models.DateTimeField()
    seconds = models.FloatField()
    quick = models.BooleanField()
    checked = models.JSONField(default=dict)
    findings = models.JSONField(default=list)

    class Meta:
        ordering = ["-started_at", "-id"]

    def __str__(self) -> str:
        return f"{len(self.findings)} findings at {self.started_at:%Y-%m-%d %H:%M}"


class Farewell(models.Model):
    """A person's wish to be forgotten, and what came of it. The user row stays, without a name."""

    user = models.ForeignKey(User, models.PROTECT, related_name="farewells")
    asked_at = models.DateTimeField(auto_now_add=True)
    asked_by_person = models.BooleanField(default=False)  # on a page; else an operator began it
    withdraw_votes = models.BooleanField(default=False, db_default=False)  # from training to come
    withdrawn_at = models.DateTimeField(null=True)  # by the person
    done_at = models.DateTimeField(null=True)
    actor = models.CharField(max_length=150, blank=True)  # who did it
    reason = models.CharField(max_length=300, blank=True)
    done = models.JSONField(default=dict)  # how much of what is gone, and what stays

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(done_at=None, withdrawn_at=None),
                name="one_open_farewell",
            )
        ]

    def __str__(self) -> str:
        return f"farewell of user {self.user_id}"

    @property
    def due(self) -> datetime:
        """When it must be carried out at the latest."""
        return self.asked_at + WITHIN
