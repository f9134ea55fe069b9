"""Which workers there are, what each does, and what waits in the queues.

A worker process says every few seconds that it lives and what its host has left. This is for
people to look at: who may work on a job is decided by leases alone (`fleet/claims.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Min, Q
from django.db.models.functions import Now
from django.utils import timezone

from align import jobs
from plumbline.fleet import host
from plumbline.fleet.models import Device, Job, Worker

EVERY = 5.0  # seconds between two signs of life
SILENT = timedelta(seconds=20)  # after which a worker counts as gone
FORGOTTEN = timedelta(hours=1)  # after which it is no longer shown


@dataclass(frozen=True)
class Queue:
    """What waits for workers. `oldest`: since when the oldest job that is due has waited."""

    name: str
    due: int
    later: int  # after a failed attempt, until their time comes
    running: int
    oldest: datetime | None
    workers: int  # that live and take from it


def report(name: str, queues: Sequence[str], job: UUID | None) -> None:
    """A sign of life; the first one makes the row."""
    said: dict[str, Any] = {
        "host": socket.gethostname()[:80],
        "queues": list(queues),
        "job_id": job,
        "facts": host.facts(),
        "seen_at": Now(),
    }
    Worker.objects.update_or_create(
        name=name[:120], defaults=said, create_defaults={**said, "started_at": Now()}
    )
    Worker.objects.filter(seen_at__lt=timezone.now() - FORGOTTEN).delete()


def leave(name: str) -> None:
    """The worker ends in good order."""
    Worker.objects.filter(name=name[:120]).delete()


def workers() -> list[Worker]:
    """All that were seen within the hour, by host; their jobs loaded."""
    since = timezone.now() - FORGOTTEN
    found = Worker.objects.filter(seen_at__gte=since).select_related("job")
    return list(found.order_by("host", "started_at", "pk"))


def alive(worker: Worker, now: datetime) -> bool:
    return now - worker.seen_at < SILENT


def queues(seen: Sequence[Worker], now: datetime) -> list[Queue]:
    """Of every queue that jobs go to."""
    due = Q(state=Job.State.QUEUED) & (Q(not_before=None) | Q(not_before__lte=now))
    later = Q(state=Job.State.QUEUED, not_before__gt=now)
    rows = (
        Job.objects.filter(state__in=(Job.State.QUEUED, Job.State.RUNNING))
        .order_by()
        .values("queue")
        .annotate(
            due=Count("pk", filter=due),
            later=Count("pk", filter=later),
            running=Count("pk", filter=Q(state=Job.State.RUNNING)),
            oldest=Min("created_at", filter=due),
        )
    )
    known: dict[str, dict[str, Any]] = {row["queue"]: dict(row) for row in rows}
    found = []
    for name in sorted({*jobs.QUEUES.values(), *known}):
        row = known.get(name, {"due": 0, "later": 0, "running": 0, "oldest": None})
        takers = sum(name in one.queues and alive(one, now) for one in seen)
        found.append(Queue(name, row["due"], row["later"], row["running"], row["oldest"], takers))
    return found


def claimed() -> dict[str, Job]:
    """The job that has each claimed GPU, by the GPU's name."""
    holding = Device.objects.filter(job__state=Job.State.RUNNING, epoch=F("job__epoch"))
    return {one.name: one.job for one in holding.select_related("job")}
