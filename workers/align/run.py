"""A child process's hold on its run directory: one live process at a time, told when to stop.

Used by every job program (`align.sample`, `align.gpu.*`). The lock dies with the process, so a
directory whose worker was killed is free at once, and a zombie of an earlier attempt that is
still running is killed before a new attempt touches its files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from align import jobs, surroundings

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stopped(Exception):
    """SIGTERM arrived: the job is cancelled or the worker is leaving; state so far is saved."""


class Run:
    """One attempt at a job: its directory, its event log, and whether it has been told to stop."""

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self.folder = folder
        self.job = jobs.read_job(folder)
        self.stopping = False
        self.silent = silent
        path = Path(os.devnull) if silent else folder / jobs.EVENTS
        self._events = path.open("a", encoding="utf-8", buffering=1)
        self._started = time.monotonic()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Named figures at an optimiser step; re-logging a step after a resume is harmless."""
        self._write(type="metric", step=step, values=dict(values))

    def progress(self, done: int, total: int, unit: str, *, tokens: int | None = None) -> None:
        """How far the job is, and how many tokens this attempt has read, where it reads any. The
        reader judges pace and time left, by this attempt alone."""
        read = {} if tokens is None else {"tokens": tokens}
        self._write(type="progress", done=done, total=total, unit=unit, **read)

    def log(self, message: str) -> None:
        self._write(type="log", message=message)

    def check(self) -> None:
        """Raise Stopped if SIGTERM has arrived. Called between units of work."""
        if self.stopping:
            raise Stopped

    def finish(self, result: Mapping[str, Any]) -> None:
        if not self.silent:
            jobs.write_json(self.folder / jobs.RESULT, result)

    def _write(self, **event: Any) -> None:
        event["elapsed"] = round(time.monotonic() - self._started, 3)
        self._events.write(json.dumps(event) + "\n")


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Run]:
    """Lock the run directory for this process and open its job.

    Raises ValueError when job.json is missing a field or has one this version does not know.
    """
    with (folder / jobs.LOCK).open("a+") as lock:
        _take(lock.fileno(), folder / jobs.LOCK)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield _listening(Run(folder))


@contextlib.contextmanager
def follow(folder: Path) -> Iterator[Run]:
    """The job of a directory that another process of the same attempt holds; it alone writes."""
    yield _listening(Run(folder, silent=True))


def main(
    work: Callable[[Run], Mapping[str, Any]],
    argv: list[str] | None = None,
    holding: Callable[[Path], contextlib.AbstractContextManager[Run]] = hold,
) -> None:
    """`python -m align.<program> RUNDIR`: do the job, write its result and where it `ran`.

    Exit status: 0 done, 2 bad job (retrying cannot help), 74 the disk is full, 75 stopped on
    request, 1 anything else (a traceback on stderr).
    """
    args = sys.argv[1:] if argv is None else argv
    if len(args) != 1 or not (Path(args[0]) / jobs.JOB).is_file():
        sys.exit(f"usage: python -m {work.__module__} RUNDIR, a folder that holds {jobs.JOB}")
    try:
        with holding(Path(args[0])) as run:
            result = work(run)
            run.finish({**result, "ran": surroundings.found(run.folder / jobs.WEIGHTS)})
    except Stopped:
        sys.exit(75)
    except ValueError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        with contextlib.suppress(OSError):  # stderr may be a file on that very disk
            print(f"{jobs.FULL} ({error.strerror})", file=sys.stderr, flush=True)
        sys.exit(jobs.DISK_FULL)


def _listening(run: Run) -> Run:
    def stop(signum: int, frame: FrameType | None) -> None:
        run.stopping = True

    signal.signal(signal.SIGTERM, stop)
    return run


def _take(handle: int, path: Path) -> None:
    """flock, killing whichever older attempt still holds it (same host; its epoch has passed)."""
    for _ in range(100):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = path.read_text().strip()
            if holder.isdigit():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(holder), signal.SIGKILL)
            time.sleep(0.1)
    raise TimeoutError(f"{path} is held by process {path.read_text().strip()!r}")
