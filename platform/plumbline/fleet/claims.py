"""Who works on what: claim, heartbeat, end, sweep.

Every write of a worker names the epoch of its own claim, so one that lost its lease changes
nothing. Leases are set and compared by the database's clock only. A function that returns bool
says whether its write counted.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField, ExpressionWrapper, Q, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from align import failpoints
from plumbline.fleet import devices, dispatch
from plumbline.fleet.models import Event, Job

log = logging.getLogger(__name__)

State = Job.State
LONGEST_BACK_OFF = 60.0  # seconds
RING_EVERY = 5.0  # seconds between two bells of one sweeper for one queue

ERROR_NAME = re.compile(r"^[\w.]*(?:Error|Exception|Refused|Away): (?=.)")

_rung: dict[str, float] = {}  # queue -> monotonic time of this process's last bell from a sweep


def claim(queue: str, worker: str, gpus: Sequence[str] = ()) -> Job | None:
    """The oldest job of `queue` that is due, now leased to `worker`; None when there is none.

    gpus: those of the worker's host. A job that finds too few of them free is passed over.
    """
    passed: list[uuid.UUID] = []
    while True:
        due = Job.objects.filter(_due(), queue=queue).exclude(pk__in=passed)
        due = due.order_by("created_at", "id")
        with transaction.atomic():
            # PostgreSQL: step over rows others are claiming. SQLite has no row locks; there the
            # transaction is IMMEDIATE, and either way the compare-and-swap below decides.
            if connection.features.has_select_for_update_skip_locked:
                due = due.select_for_update(skip_locked=True)
            job = due.first()
            if job is None:
                return None
            taken = Job.objects.filter(pk=job.pk, epoch=job.epoch, state=State.QUEUED).update(
                state=State.RUNNING,
                epoch=job.epoch + 1,
                attempt=job.attempt + 1,
                worker=worker[:120],
                lease_until=_after(settings.LEASE_SECONDS),
                heartbeat_at=Now(),
                started_at=job.started_at or Now(),
                not_before=None,
                error="",
            )
            if taken == 1:
                job.refresh_from_db()
                claimed = devices.reserve(job, gpus)
                if claimed is None:
                    passed.append(job.pk)
                    transaction.set_rollback(True)
                    continue
                where = "".join(f", {name[:24]}" for name in claimed)
                note(job, f"attempt {job.attempt} of {settings.MAX_ATTEMPTS} on {worker}{where}")
                failpoints.reach("job.claimed")
                return job


def heartbeat(job: Job, progress: dict[str, Any]) -> bool:
    """Renew the lease. False: the lease is lost (see `holds`) or a cancel is asked for."""
    renewed = _mine(job).update(
        lease_until=_after(settings.LEASE_SECONDS), heartbeat_at=Now(), progress=progress
    )
    return renewed == 1 and not cancel_asked(job)


def move_events(job: Job, position: int) -> bool:
    """Remember how far events.jsonl is copied."""
    return bool(_mine(job).update(events_read=position))


def holds(job: Job) -> bool:
    """Whether this claim is still the current one."""
    return _mine(job).exists()


def cancel_asked(job: Job) -> bool:
    return _mine(job).filter(cancel_requested=True).exists()


def succeed(job: Job, result: dict[str, Any]) -> bool:
    with transaction.atomic():
        if not _end(job, State.SUCCEEDED, result=result, error=""):
            return False
        failpoints.reach("job.ended")
        note(job, "done")
    failpoints.reach("job.end_committed")
    return True


def fail(job: Job, error: str, permanent: bool) -> bool:
    """Record a failed attempt: queued again with back-off, or failed for good when retrying cannot
    help (`permanent`) or MAX_ATTEMPTS are used up."""
    with transaction.atomic():
        if permanent or job.attempt >= settings.MAX_ATTEMPTS:
            if not _end(job, State.FAILED, error=error):
                return False
            note(job, f"failed: {_last_line(error)}")
            return True
        pause = back_off(job.attempt)
        again = _mine(job).update(
            state=State.QUEUED, lease_until=None, not_before=_after(pause), error=error
        )
        if not again:
            return False
        note(job, f"trying again in {pause:g} s: {_last_line(error)}")
    return True


def cancelled(job: Job) -> bool:
    with transaction.atomic():
        if not _end(job, State.CANCELLED):
            return False
        note(job, "cancelled")
    return True


def release(job: Job) -> bool:
    """Give a job back unfinished, as a worker does that is told to leave. Costs no attempt."""
    with transaction.atomic():
        released = _mine(job).update(
            state=State.QUEUED, lease_until=None, not_before=None, attempt=job.attempt - 1
        )
        if not released:
            return False
        failpoints.reach("lease.released")
        note(job, "handed back: its worker is leaving")
    dispatch.ring(job.queue)
    return True


def sweep() -> int:
    """Take jobs from workers that stopped answering; ring for queues with work. Returns how many
    jobs were taken."""
    taken = 0
    for job in Job.objects.filter(state=State.RUNNING, lease_until__lt=Now()):
        with transaction.atomic():
            # Renewed in between? Then it is not lost.
            if not _mine(job).filter(lease_until__lt=Now()).update(lease_until=Now()):
                continue
            failpoints.reach("lease.lost")
            taken += 1
            log.warning("%s: no sign of life from %s", job.id, job.worker)
            if job.cancel_requested:
                cancelled(job)
            else:
                fail(job, f"The worker {job.worker} stopped answering.", permanent=False)
    waiting = Job.objects.filter(_due()).order_by().values_list("queue", flat=True)
    for queue in waiting.distinct():
        if time.monotonic() - _rung.get(queue, -RING_EVERY) >= RING_EVERY:
            _rung[queue] = time.monotonic()
            dispatch.ring(queue)
    return taken


def back_off(attempt: int) -> float:
    """Seconds to wait after the given attempt failed: 1, 2, 4, ... up to a minute."""
    return min(LONGEST_BACK_OFF, 2.0 ** (attempt - 1))


def reason(error: str) -> str:
    """Why a job failed, in a sentence: what its last line says, without the name of a class."""
    return ERROR_NAME.sub("", _last_line(error))


def note(job: Job, message: str) -> None:
    Event.objects.create(job=job, epoch=job.epoch, message=message[:500])


def _mine(job: Job) -> QuerySet[Job]:
    return Job.objects.filter(pk=job.pk, epoch=job.epoch, state=State.RUNNING)


def _end(job: Job, state: Job.State, **fields: Any) -> bool:
    return bool(_mine(job).update(state=state, lease_until=None, finished_at=Now(), **fields))


def _due() -> Q:
    return Q(state=State.QUEUED) & (Q(not_before=None) | Q(not_before__lte=Now()))


def _after(seconds: float) -> Combinable:
    """A moment on the database's clock."""
    later: Combinable = ExpressionWrapper(
        Now() + timedelta(seconds=seconds), output_field=DateTimeField()
    )
    return later


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1]
