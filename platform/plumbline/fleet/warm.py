"""Processes of jobs forked from one that has loaded their libraries (`align.warm`).

A job that starts afresh spends five seconds of processor time on loading them; a fork starts at
once. One such process is kept for each worker process, from its first job on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from django.conf import settings

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "peft")  # with them comes transformers
PROGRAM = (sys.executable, "-m", "align.warm", *LIBRARIES)


def gently(*command: str) -> list[str]:
    """The command line that runs a job's program behind what else this machine does."""
    return ["nice", "-n", str(settings.JOB_NICE), *command]


class Forked:
    """A job's process, with what `subprocess.Popen` would offer of it."""

    def __init__(self, answer: socket.socket) -> None:
        self._answer = answer
        self._pid: int | None = None
        self._status: int | None = None

    @property
    def pid(self) -> int:
        """Waits for it, if it is still being started. ProcessLookupError: it was never started."""
        while self._pid is None and self._status is None:
            self._listen(None)
        if self._pid is None:
            raise ProcessLookupError
        return self._pid

    def poll(self) -> int | None:
        return self._until(time.monotonic())

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        status = self._until(None if timeout is None else time.monotonic() + timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(PROGRAM, timeout)
        return status

    def _until(self, deadline: float | None) -> int | None:
        while self._status is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._listen(left):
                return None
        return self._status

    def _listen(self, seconds: float | None) -> bool:
        """Hear the next thing, if there is one within so many seconds."""
        if not select.select([self._answer], [], [], seconds)[0]:
            return False
        said = self._answer.recv(64)
        if said and self._pid is None:
            self._pid = int(said)
            return True
        # Without a word: the process it was forked from has died, and it dies with that one.
        self._status = int(said) if said else -signal.SIGKILL
        self._answer.close()
        return True


class Nursery:
    """The process that forks, started when it is first needed and whenever it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] = {}
        self._control: socket.socket | None = None

    def start(
        self, command: Sequence[str], output: IO[bytes], environment: Mapping[str, str]
    ) -> Forked:
        """Run a module with its arguments, as `python -m` would in that environment. Raises
        OSError where that cannot be."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._lock, theirs:
            try:
                said = json.dumps(list(command)).encode()
                descriptors = [output.fileno(), theirs.fileno()]
                socket.send_fds(self._awake(environment), [said], descriptors)
            except OSError:
                ours.close()
                self.close()
                raise
        return Forked(ours)

    def _awake(self, environment: Mapping[str, str]) -> socket.socket:
        alive = self._process is not None and self._process.poll() is None
        if alive and self._control is not None and self._environment == environment:
            return self._control
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                gently(*PROGRAM),
                stdin=theirs.fileno(),
                # A library that asks whether there is a GPU must not begin CUDA before a fork.
                env={**environment, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
                start_new_session=True,
            )
        self._control, self._environment = ours, dict(environment)
        return ours

    def close(self) -> None:
        """Without its socket the process ends by itself."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        self._process = self._control = None


nursery = Nursery()
