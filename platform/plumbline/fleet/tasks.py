"""The only Celery task: a bell for a queue, answered by working until the queue is empty.

Bells get lost, with Redis or without; so a worker also looks at the database by itself every few
seconds, in a thread that does not depend on the broker. A worker process does one job at a time,
however it heard of it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any
from uuid import UUID

from celery import bootsteps
from celery.worker import state
from django.db import close_old_connections, connections

from plumbline.celery import app
from plumbline.fleet import claims, devices, lending, presence
from plumbline.fleet.dispatch import TASK
from plumbline.fleet.supervise import supervise

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0

_one_at_a_time = threading.Lock()
_at_work: list[UUID] = []  # the job in hand


@app.task(name=TASK)  # type: ignore[untyped-decorator]  # celery has none
def work(queue: str) -> None:
    """Do the jobs of `queue` until none is due."""
    with _one_at_a_time:
        while not leaving() and (job := claims.claim(queue, worker_name(), devices.found())):
            log.info("%s: %s, attempt %d", job.id, job.title, job.attempt)
            _at_work[:] = [job.id]
            try:
                with lending.memory(job):
                    supervise(job, leaving)
            finally:
                _at_work.clear()
            log.info("%s: the attempt is over", job.id)


def leaving() -> bool:
    """Whether this worker process has been told to stop, gently or not."""
    # Celery puts an exit status there, and 0 is one.
    asked = (state.should_stop, state.should_terminate)
    return any(status is not None and status is not False for status in asked)


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


class Poll(bootsteps.StartStopStep):  # type: ignore[misc]
    """Looks for due jobs of the worker's queues and for lost leases, broker or no broker."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        queues = list(parent.app.amqp.queues.consume_from)
        self._thread = threading.Thread(target=self._run, args=[queues], name="poll", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()  # a job in hand is handed back first

    terminate = stop

    def _run(self, queues: list[str]) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            close_old_connections()
            try:
                claims.sweep()
                lending.rouse()
                for queue in queues:
                    if not _one_at_a_time.locked():
                        work(queue)
            except Exception:  # whatever one job does, the next look must come
                log.exception("this look at the database failed; the next one is soon")


class Presence(Poll):
    """Says that the worker lives, from a thread of its own: a job keeps the other one busy."""

    def _run(self, queues: list[str]) -> None:
        while True:
            close_old_connections()
            try:
                presence.report(worker_name(), queues, next(iter(_at_work), None))
            except Exception:  # a database that is away is no reason to stop the work
                log.exception("could not say that this worker lives")
            if self._stopped.wait(presence.EVERY):
                break
        try:
            presence.leave(worker_name())
        except Exception:  # then the row grows old by itself
            log.warning("could not say that this worker leaves")
        connections.close_all()


app.steps["worker"].add(Poll)
app.steps["worker"].add(Presence)
