"""What a client meant to do, and what it was told: written down before and after each request.

One file for each client, a line at a time, on the disk before the client goes on. Whatever dies
meanwhile, what the file holds is what the client could swear to: `intent` before the first byte is
sent, `ack` when the server said that it is done, `refused` when it said no. An intent with neither
is unknown: it may have been done or not, once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INTENT, ACK, REFUSED = "intent", "ack", "refused"


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def intent(self, what: str, key: str, **told: Any) -> None:
        self._write(INTENT, what, key, told)

    def ack(self, what: str, key: str, **told: Any) -> None:
        self._write(ACK, what, key, told)

    def refused(self, what: str, key: str, **told: Any) -> None:
        self._write(REFUSED, what, key, told)

    def close(self) -> None:
        self._file.close()

    def _write(self, event: str, what: str, key: str, told: dict[str, Any]) -> None:
        line = {"event": event, "what": what, "key": key, "at": time.time(), **told}
        raw = json.dumps(line).encode() + b"\n"
        with self._lock:
            self._file.write(raw)
            os.fdatasync(self._file.fileno())


@dataclass
class Command:
    """One thing that a client wanted, and what it was told of it, in the order it was told."""

    what: str
    key: str
    intent: dict[str, Any] | None = None
    acks: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def acked(self) -> bool:
        return bool(self.acks)

    @property
    def refused(self) -> bool:
        return bool(self.refusals) and not self.acks

    @property
    def unknown(self) -> bool:
        return not self.acks and not self.refusals


def read(paths: Iterable[Path]) -> list[Command]:
    """All commands of these journals. Raises ValueError for an answer to what nobody meant to do,
    and for a key that two intents have."""
    found: dict[tuple[str, str], Command] = {}
    for path in paths:
        for raw in path.read_bytes().split(b"\n")[
            :-1
        ]:  # what a killed client half wrote is nothing
            line = json.loads(raw)
            at = (line["what"], line["key"])
            if line["event"] == INTENT:
                if at in found:
                    raise ValueError(f"{path.name}: {at} is meant twice")
                found[at] = Command(*at, intent=line)
            elif at not in found:
                raise ValueError(f"{path.name}: {at} was answered and never meant")
            elif line["event"] == ACK:
                found[at].acks.append(line)
            else:
                found[at].refusals.append(line)
    return list(found.values())
