"""Engine and trainer on one accelerator: the engine sleeps while a GPU job runs.

Off unless ENGINE_SLEEPS is set, for with a second GPU they run apart. A loan is a row: gateways see
it and hold requests back before the engine sleeps, and whether the engine should be awake is read
from the rows at every look of every worker, so it wakes again whoever died in between.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from django.conf import settings
from django.db.models.functions import Now

from plumbline.fleet import claims, devices
from plumbline.fleet.models import Job
from plumbline.policies import engines, serving
from plumbline.policies.models import Loan

log = logging.getLogger(__name__)


@contextmanager
def memory(job: Job) -> Iterator[None]:
    """The engine's memory, for as long as the job runs. An engine that does not give it is no
    reason to stop: the job may fit beside it, and fails by itself if not."""
    if not _wants(job):
        yield
        return
    try:
        _borrow(job)
        yield
    finally:
        _give_back(job)


def rouse() -> None:
    """Wake the engine unless a job that borrowed its memory is running. Safe at any time and as
    often as one likes: workers do it at every look at the database."""
    loans = list(Loan.objects.all())
    over = [loan.pk for loan in loans if loan.given_back or not _runs(loan)]
    if not over:
        return
    ended = Loan.objects.filter(pk__in=over)
    if len(over) < len(loans):  # another one still needs it
        ended.delete()
        return
    try:
        engines.wake()
        ended.delete()
        if Loan.objects.exists():  # to a job that came in between and now believes it asleep
            engines.sleep()
    except engines.EngineError as error:
        log.warning("the engine was not woken, the next look tries again: %s", error)


def _wants(job: Job) -> bool:
    """Whether the job may need what the engine holds: not if it has GPUs and none is the engine's.
    Where ENGINE_GPUS does not say which these are, any may be."""
    if not settings.ENGINE_SLEEPS or job.queue != devices.GPU_QUEUE:
        return False
    its, theirs = set(devices.held(job)), set(devices.of_engine())
    return not its or not theirs or bool(its & theirs)


def _borrow(job: Job) -> None:
    """The engine asleep, no request on its way to it; or, where it cannot sleep, nothing changed
    and the reason among the job's events."""
    try:
        _beating(job, engines.check_sleep)
        Loan.objects.create(job=job.pk, epoch=job.epoch)
        # Twice: a request that was let in before the loan was seen may still be on its way.
        time.sleep(2 * serving.SEEN_SECONDS)
        _beating(job, engines.sleep)
    except engines.EngineSlow as error:  # it sleeps as soon as it has answered what it runs
        _tell(job, f"begins before the engine has fallen asleep: {error}")
    except engines.EngineError as error:
        _tell(job, f"begins beside the engine: {error}")
        _give_back(job)


def _give_back(job: Job) -> None:
    Loan.objects.filter(job=job.pk, epoch=job.epoch).update(given_back=True)
    rouse()


def _tell(job: Job, message: str) -> None:
    log.warning("%s %s", job.id, message)
    claims.note(job, message)


def _beating(job: Job, ask: Callable[[], None]) -> None:
    """Ask the engine for something; the job's lease is renewed meanwhile, for an engine first
    answers what it has begun."""
    with ThreadPoolExecutor(max_workers=1) as aside:
        asked = aside.submit(ask)
        while not wait([asked], timeout=settings.HEARTBEAT_SECONDS).done:
            claims.heartbeat(job, job.progress)
        asked.result()


def _runs(loan: Loan) -> bool:
    attempts = Job.objects.filter(pk=loan.job, epoch=loan.epoch, state=Job.State.RUNNING)
    return attempts.filter(lease_until__gte=Now()).exists()
