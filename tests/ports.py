"""Ports for the servers that tests start."""

from __future__ import annotations

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

# Below the range from which Linux serves port 0 and outgoing connections (32768 and up): a port
# found by binding to 0 and let go again may belong to anybody a moment later.
RANGE = range(20_000, 32_000)

_held: list[IO[bytes]] = []


def free_port() -> int:
    """A port on this host that no other test run takes for as long as this process lives."""
    locks = Path(tempfile.gettempdir()) / "plumbline-ports"
    locks.mkdir(exist_ok=True)
    for port in random.Random().sample(RANGE, len(RANGE)):
        lock = (locks / str(port)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        if _bindable(port):
            return port
    raise RuntimeError("no free port")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
