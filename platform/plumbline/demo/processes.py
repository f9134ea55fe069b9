"""The demo's processes: each in its own group, logged to a file, restarted when it dies.

A process dies with the demo even when that is killed outright. A restart waits longer each time,
and whoever watches is told what died and where its log is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from align.tether import tethered

GRACE_SECONDS = 10.0
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0  # after which a death counts as the first again


class PortBusy(Exception):
    """Somebody else listens where the demo wants to."""


@dataclass
class Process:
    name: str
    command: list[str]
    log: Path
    environment: Mapping[str, str]
    say: Callable[[str], None]
    _running: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _pause: float = 1.0
    _restart_at: float = field(default=0.0)

    def start(self) -> None:
        self._started = time.monotonic()
        with self.log.open("ab") as out:
            self._running = subprocess.Popen(
                tethered(*self.command, by=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the others
            )

    def watch(self) -> None:
        """Start it again if it has died and its pause is over."""
        if self._running is not None:
            status = self._running.poll()
            if status is None:
                return
            self._running = None
            if time.monotonic() - self._started > STEADY_SECONDS:
                self._pause = 1.0
            self._restart_at = time.monotonic() + self._pause
            self.say(
                f"{self.name} ended with status {status}, starting it again in {self._pause:g} s; "
                f"see {self.log}"
            )
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        elif time.monotonic() >= self._restart_at:
            self.start()

    def signal(self, number: signal.Signals) -> None:
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running.pid, number)

    def gone(self) -> bool:
        return self._running is None or self._running.poll() is not None

    def tail(self, lines: int = 10) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def stop_all(processes: list[Process]) -> None:
    """SIGTERM to all; after GRACE_SECONDS SIGKILL to every group, whoever is left in it."""
    for process in reversed(processes):
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and not all(process.gone() for process in processes):
        time.sleep(0.05)
    for process in processes:
        process.signal(signal.SIGKILL)


def check_port(port: int, option: str) -> None:
    """Raises PortBusy with what to do about it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PortBusy(
                f"Port {port} is in use by another program; choose another one with "
                f"`make demo {option}={port + 10}`."
            ) from None
