"""Jobs and what they report. The row is the truth: Celery and Redis only say that there is one."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Q

from plumbline.accounts.models import Project


class Job(models.Model):
    """One unit of work, run in `RUNS_DIR/<id>` by whoever holds its lease.

    `epoch` is the fencing token: it grows with every claim, and every write of a worker carries
    the epoch of its own claim, so what a worker writes after losing its lease changes nothing.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=10)
    queue = models.CharField(max_length=10)
    title = models.CharField(max_length=120)
    spec = models.JSONField()
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    attempt = models.PositiveIntegerField(default=0)
    epoch = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)  # back-off after a failed attempt
    cancel_requested = models.BooleanField(default=False)
    # {"done", "total", "unit"}; with the attempt's pace, "rate" a second and "left" seconds too
    progress = models.JSONField(default=dict)
    events_read = models.PositiveBigIntegerField(default=0)  # bytes of events.jsonl copied to rows
    result = models.JSONField(null=True)
    error = models.TextField(blank=True)  # the last lines of the child's output
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["queue", "state", "created_at"])]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="running", lease_until__isnull=False) | ~Q(state="running"),
                name="running_job_has_lease",
            )
        ]

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"

    @property
    def folder(self) -> Path:
        return Path(settings.RUNS_DIR) / str(self.id)

    @property
    def over(self) -> bool:
        return self.state in (self.State.SUCCEEDED, self.State.FAILED, self.State.CANCELLED)


class Device(models.Model):
    """A job's claim on a GPU. It holds while the job runs in that epoch (`fleet/devices.py`)."""

    name = models.CharField(max_length=120, unique=True)
    job = models.ForeignKey(Job, models.CASCADE, related_name="devices")
    epoch = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """A worker process, by its last sign of life (`fleet/presence.py`). It decides nothing."""

    name = models.CharField(max_length=120, unique=True)
    host = models.CharField(max_length=80)
    queues = models.JSONField(default=list)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    facts = models.JSONField(default=dict)  # of its host: `fleet.host.facts`
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.name


class Metric(models.Model):
    job = models.ForeignKey(Job, models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    name = models.CharField(max_length=60)
    value = models.FloatField()

    class Meta:
        ordering = ["step"]
        constraints = [
            models.UniqueConstraint(fields=["job", "name", "step"], name="one_value_a_step")
        ]

    def __str__(self) -> str:
        return f"{self.name}[{self.step}] = {self.value:g}"


class Event(models.Model):
    """A line of the job's story: claimed, lost, retried, logged."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    epoch = models.PositiveIntegerField()
    message = models.CharField(max_length=500)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.message
