"""Whether the entries are those that were written: numbers, seals, the chain, the triggers, and
a copy that is kept elsewhere.

Who has the database and not the key can neither change an entry nor put one in; taking the last
ones away and turning the head back leaves a chain that is whole, and is found by the copy.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

from plumbline.audit import guards, seals
from plumbline.audit.models import AuditEntry, AuditHead

CHUNK = 2000


class CopyDiffers(Exception):
    """What a copy tells that the table does not; a sentence."""


@dataclass(frozen=True)
class Fault:
    number: int | None  # of the entry, None where it is about all of them
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def faults() -> Iterator[Fault]:
    """What is wrong, from the first entry on; nothing where all is as it was written."""
    keys, before, expected = seals.known(), seals.FIRST, 1
    for entry in AuditEntry.objects.order_by("number").iterator(CHUNK):
        if entry.number != expected:
            yield Fault(entry.number, _missing(expected, entry.number))
        elif entry.previous != before:
            yield Fault(
                entry.number, f"entry {entry.number} does not follow from the one before it"
            )
        yield from _sealed(entry, keys)
        before, expected = entry.seal, entry.number + 1
    yield from _ending(expected - 1, before)
    with connection.cursor() as cursor:
        cursor.execute(guards.standing(connection.vendor))
        names = {name for (name,) in cursor.fetchall()}
    for name in guards.missing(names, connection.vendor):
        yield Fault(None, f"the trigger {name} that keeps entries from change is gone")


def _sealed(entry: AuditEntry, keys: dict[str, bytes]) -> Iterator[Fault]:
    key = keys.get(entry.key)
    if key is None:
        yield Fault(
            entry.number,
            f"entry {entry.number} was sealed with the key {entry.key}, which is not here: give it "
            "as AUDIT_KEY or in AUDIT_KEYS_BEFORE",
        )
    elif not hmac.compare_digest(entry.seal, seals.seal(entry, key)):
        yield Fault(entry.number, f"entry {entry.number} is not what was sealed: {entry}")


def _missing(expected: int, found: int) -> str:
    if found - expected == 1:
        return f"entry {expected} is missing"
    return f"entries {expected} to {found - 1} are missing"


def _ending(last: int, seal: str) -> Iterator[Fault]:
    head = AuditHead.objects.filter(pk=1).first()
    number = head.number if head is not None else 0
    if number > last:
        yield Fault(number, f"{_missing(last + 1, number + 1)} at the end")
    elif number < last or (head is not None and last and head.seal != seal):
        yield Fault(None, f"the head stands at entry {number}, and the last one is {last}")


def line(entry: AuditEntry) -> dict[str, Any]:
    """An entry as JSON, with all that its seal covers."""
    return {
        "number": entry.number,
        "at": entry.at.isoformat(timespec="microseconds"),
        "who": entry.who,
        "what": entry.what,
        "project": entry.project,
        "object": entry.object,
        "details": entry.told,
        "key": entry.key,
        "previous": entry.previous,
        "seal": entry.seal,
    }


def copy(path: Path) -> int:
    """Compare what the copy has with the table, then add what it lacks; how many entries those
    are. Raises CopyDiffers, and then the copy is as it was.

    A line that a crash cut short is written again.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        last, end = _compared(out)
        out.seek(end)
        out.truncate()
        added = 0
        for entry in AuditEntry.objects.filter(number__gt=last).order_by("number").iterator(CHUNK):
            out.write(json.dumps(line(entry)).encode() + b"\n")
            added += 1
        out.flush()
        os.fsync(out.fileno())
    return added


def _compared(out: Any) -> tuple[int, int]:
    """The number of the copy's last entry and where it ends."""
    last = end = 0
    rows = AuditEntry.objects.order_by("number").iterator(CHUNK)
    for raw in out:
        if not raw.endswith(b"\n"):
            break
        try:
            kept = json.loads(raw)
            number = int(kept["number"])
        except (ValueError, KeyError, TypeError) as error:
            raise CopyDiffers(f"line {last + 1} of the copy is not an entry") from error
        entry = next(rows, None)
        if entry is None or entry.number > number:
            raise CopyDiffers(f"entry {number} is in the copy and not in the database")
        if line(entry) != kept:
            raise CopyDiffers(f"entry {number} in the database is not the one in the copy")
        last, end = number, end + len(raw)
    return last, end
