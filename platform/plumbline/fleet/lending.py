"""Engine and trainer on one accelerator: the engine sleeps while a GPU job runs.

Off unless ENGINE_SLEEPS is set, for with a second GPU they run apart. Whether the engine should be
awake is read from the jobs' rows at every look, so it wakes again whoever died in between. Requests
that come meanwhile wait in the engine; nobody is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db.models.functions import Now

from plumbline.fleet.models import Job
from plumbline.policies import serving

log = logging.getLogger(__name__)

QUEUE = "gpu"  # whose jobs want the engine's memory


@contextmanager
def memory(job: Job) -> Iterator[None]:
    """The engine's memory, for as long as the job runs. An engine that does not give it is no
    reason to stop: the job may fit beside it, and fails by itself if not."""
    if not settings.ENGINE_SLEEPS or job.queue != QUEUE:
        yield
        return
    try:
        serving.sleep()
    except serving.EngineError as error:
        log.warning("%s begins beside an engine that did not fall asleep: %s", job.id, error)
    try:
        yield
    finally:
        rouse()


def rouse() -> None:
    """Wake the engine unless a GPU job is running. Safe at any time and as often as one likes:
    workers do it at every look at the database."""
    if not settings.ENGINE_SLEEPS:
        return
    running = Job.objects.filter(queue=QUEUE, state=Job.State.RUNNING, lease_until__gte=Now())
    if running.exists():
        return
    try:
        serving.wake()
    except serving.EngineError as error:
        log.warning("the engine was not woken, the next look tries again: %s", error)
