"""Handing work to the fleet: write the run directory, add the row, ring the bell.

The row is what counts. It is written in the caller's transaction, so a rollback leaves no job (only
a folder nobody refers to), and a bell that is never heard only delays the job until a worker next
looks at the database.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from align import failpoints, jobs
from plumbline.accounts.models import Project
from plumbline.fleet.models import Event, Job

log = logging.getLogger(__name__)

TASK = "plumbline.fleet.work"
STALE = 30.0  # seconds after which a bell nobody heard is dropped
PAUSE = 5.0  # seconds without ringing after a broker failed to answer

_silent_until = 0.0  # monotonic; a dead broker is asked every PAUSE seconds, not by every request
_bells = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bell")
_waiting: set[str] = set()  # queues that the thread is still to ring for


def submit(
    project: Project,
    job: jobs.Job,
    title: str,
    inputs: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
) -> Job:
    """Queue `job` with its input files (file name -> rows) in a new run directory."""
    key = uuid.uuid4()
    _write_folder(Path(settings.RUNS_DIR) / str(key), job, inputs or {})
    failpoints.reach("job.folder_written")
    row = Job.objects.create(
        id=key,
        project=project,
        kind=job.kind,
        queue=jobs.QUEUES[job.kind],
        title=title[:120],
        spec=jobs.to_json(job),
    )
    failpoints.reach("job.row_written")
    transaction.on_commit(partial(_announce, row.queue))
    return row


def _announce(queue: str) -> None:
    """The row is committed; from here on the job gets done, bell or no bell."""
    failpoints.reach("job.committed")
    ring(queue)


def cancel(job: Job) -> None:
    """End a queued job at once; ask the worker of a running one to stop. Others stay."""
    rows = Job.objects.filter(pk=job.pk)
    with transaction.atomic():
        queued = rows.filter(state=Job.State.QUEUED)
        if queued.update(
            state=Job.State.CANCELLED, cancel_requested=True, finished_at=Now(), error=""
        ):
            Event.objects.create(job=job, epoch=job.epoch, message="cancelled before it began")
        else:
            rows.filter(state=Job.State.RUNNING).update(cancel_requested=True)
    job.refresh_from_db()


def ring(queue: str) -> None:
    """Have one worker of `queue` told to look at the database. Never raises and never waits: a
    broker that is slow or does not answer keeps a thread of its own busy, and nobody's page."""
    if time.monotonic() < _silent_until or queue in _waiting:
        return
    _waiting.add(queue)
    try:
        _bells.submit(_ring, queue)
    except RuntimeError:  # the process is ending
        _waiting.discard(queue)


def _ring(queue: str) -> None:
    global _silent_until
    _waiting.discard(queue)  # whoever asks from now on may mean a row that came after this bell
    if time.monotonic() < _silent_until:
        return
    from plumbline.celery import app  # only for this: a gateway seldom asks for a job

    try:
        app.send_task(TASK, args=[queue], queue=queue, expires=STALE, retry=False)
    except (KombuError, RedisError, OSError) as error:
        _silent_until = time.monotonic() + PAUSE
        log.warning("no bell for %s, its workers will see the job by themselves: %s", queue, error)


def _write_folder(
    folder: Path, job: jobs.Job, inputs: Mapping[str, Iterable[Mapping[str, Any]]]
) -> None:
    """The whole run directory or none of it: written aside, then renamed."""
    aside = folder.with_name(f".{folder.name}.tmp")
    aside.mkdir(parents=True)
    for name, rows in inputs.items():
        assert Path(name).name == name, name
        jobs.write_rows(aside / name, rows)
    jobs.write_json(aside / jobs.JOB, jobs.to_json(job))
    aside.rename(folder)
    jobs.sync_dir(folder.parent)
