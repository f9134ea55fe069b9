"""One attempt at a job: start its child process, watch over it, and write down how it ended.

The child works in the run directory and knows no database; this side holds the lease. GPU memory
is certainly free after the child, and a training step of minutes never starves the heartbeat.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from align import jobs
from align.judge_jobs import KEY_PREFIX, PRIVATE_ENDPOINTS, SANDBOX
from align.tether import tethered
from plumbline.fleet import claims, devices
from plumbline.fleet.models import Job
from plumbline.fleet.reports import Reports
from plumbline.fleet.warm import Forked, gently, nursery

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
LOOK_SECONDS = 0.1
ERROR_LINES = 40
BAD_JOB = 2  # the child's exit status when retrying cannot help

# What a child gets of the environment; everything else, secrets among it, stays here.
PASSED = {"HOME", "LANG", "PATH", "PYTHONPATH", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
PASSED |= {SANDBOX, "PLUMBLINE_FAILPOINTS"}
PASSED_PREFIXES = ("CUDA_", "LC_", "LD_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "PYTORCH_", "TORCH_")

Leaving = Callable[[], bool]


class Child:
    """The job's process, in a group of its own, and what it wrote to stderr in this attempt."""

    def __init__(self, job: Job) -> None:
        self._log = job.folder / jobs.STDERR
        self._log_start = self._log.stat().st_size if self._log.is_file() else 0
        gpus = devices.held(job)
        with self._log.open("ab") as stderr:
            self._process = _begin(job, gpus, stderr)

    def ended(self, wait: float) -> int | None:
        """Its exit status, if it ends within `wait` seconds."""
        try:
            return self._process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, beat: Callable[[], object]) -> int:
        """SIGTERM, a grace time with heartbeats, SIGKILL; the exit status."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while (status := self.ended(LOOK_SECONDS)) is None and time.monotonic() < deadline:
            beat()
        return self.kill() if status is None else status

    def kill(self) -> int:
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def last_words(self, status: int) -> str:
        """The end of this attempt's stderr, and how it ended if that says more."""
        with self._log.open("rb") as lines:
            lines.seek(max(self._log_start, self._log.stat().st_size - 100_000))
            tail = lines.read().decode(errors="replace").splitlines()[-ERROR_LINES:]
        if status < 0:
            tail.append(f"The process was ended by {signal.Signals(-status).name}.")
        elif status == jobs.DISK_FULL:  # which may have had no room for its last words either
            said = [line for line in tail if line.startswith(jobs.FULL)]
            tail = [*(line for line in tail if line not in said), *(said[-1:] or [jobs.FULL])]
        elif not tail:
            tail.append(f"The process ended with exit status {status} and said nothing.")
        return "\n".join(tail)


def _begin(job: Job, gpus: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes] | Forked:
    environment = child_environment() | devices.environment(gpus) | asking(job)
    processes = devices.processes(job, gpus)
    if _starts_warm(job, gpus, processes):
        return nursery.start([jobs.MODULES[job.kind], str(job.folder)], output, environment)
    return subprocess.Popen(
        tethered(*gently(*program(job, processes)), by=signal.SIGKILL),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )


def _starts_warm(job: Job, gpus: Sequence[str], processes: int) -> bool:
    """A fork saves what loading the libraries takes, but CUDA may not survive one."""
    loads = jobs.QUEUES[job.kind] == devices.GPU_QUEUE
    return settings.WARM_JOBS and loads and not gpus and processes == 1


class Heart:
    """Beats every HEARTBEAT_SECONDS. A database that is away is no reason to stop the work: what
    matters is whether the lease is still ours when it is back."""

    def __init__(self, job: Job) -> None:
        self._reports = Reports(job)
        self._next = 0.0
        self.alive = True

    def beat(self, now: bool = False) -> bool:
        if now or time.monotonic() >= self._next:
            try:
                self.alive = self._reports.copy()
                while self.alive and self._reports.behind:
                    self.alive = self._reports.copy()
            except (OperationalError, InterfaceError) as error:
                log.warning("database away, the job goes on: %s", error)
                connection.close()
            self._next = time.monotonic() + settings.HEARTBEAT_SECONDS
        return self.alive


def supervise(job: Job, leaving: Leaving) -> None:
    """See a claimed job through one attempt. `leaving` turns true when this worker must stop."""
    if not (job.folder / jobs.JOB).is_file():
        claims.fail(job, f"There is no {job.folder / jobs.JOB} on this host.", permanent=False)
        return
    heart = Heart(job)
    child = Child(job)
    try:
        while (status := child.ended(LOOK_SECONDS)) is None:
            if leaving():
                return _hand_back(job, child, heart)
            if not heart.beat():
                return _cancel_or_lose(job, child, heart)
        heart.beat(now=True)
        insist(lambda: _conclude(job, child, status))
    finally:
        child.kill()


def _conclude(job: Job, child: Child, status: int) -> None:
    result = job.folder / jobs.RESULT
    if status == 0 and result.is_file():
        claims.succeed(job, json.loads(result.read_text()))
    elif claims.cancel_asked(job):
        claims.cancelled(job)
    elif status == 0:
        claims.fail(job, f"The process ended well but wrote no {jobs.RESULT}.", permanent=False)
    else:
        claims.fail(job, child.last_words(status), permanent=status == BAD_JOB)


def _hand_back(job: Job, child: Child, heart: Heart) -> None:
    status = child.stop(heart.beat)
    heart.beat(now=True)
    if status == 0:
        insist(lambda: _conclude(job, child, status))
    else:
        insist(lambda: claims.release(job))


def _cancel_or_lose(job: Job, child: Child, heart: Heart) -> None:
    if not claims.holds(job):
        log.warning("%s: lost its lease, another attempt has it; stopping this one", job.id)
        child.kill()
        return
    child.stop(heart.beat)
    insist(lambda: claims.cancelled(job))


def insist(write: Callable[[], object]) -> None:
    """Do a last write, waiting out a database that is away for as long as a lease is worth it."""
    deadline = time.monotonic() + 2 * settings.LEASE_SECONDS
    while True:
        try:
            write()
            return
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def program(job: Job, processes: int) -> list[str]:
    """The command line that does a job."""
    plain = [sys.executable, "-m", jobs.MODULES[job.kind], str(job.folder)]
    if processes == 1:
        return plain
    return [sys.executable, "-m", jobs.LAUNCHER, str(processes), *plain[2:]]


def asking(job: Job) -> dict[str, str]:
    """Of a job that asks an endpoint: the one key that it names, and which private addresses may be
    asked."""
    asked = job.spec.get("asked")
    if not isinstance(asked, dict):
        return {}
    key = str(asked.get("key_variable", ""))
    keys = {k: v for k, v in os.environ.items() if k == key and k.startswith(KEY_PREFIX)}
    return keys | {PRIVATE_ENDPOINTS: str(settings.PRIVATE_ENDPOINTS)}


def child_environment() -> dict[str, str]:
    """No settings pass this way, only what any program needs from its host."""
    kept = {k: v for k, v in os.environ.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}
    source = Path(settings.ROOT)
    kept.setdefault("PYTHONPATH", f"{source / 'platform'}:{source / 'workers'}")
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
