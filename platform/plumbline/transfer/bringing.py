"""The long part of bringing a file in: check it, write it, take it back.

`work` does what an upload's row asks for, once, and may be killed at any instant: a check leaves
nothing, and writing and undoing are one transaction each, in which the row moves on too. How far it
is goes into a file beside the upload, because a transaction's progress is nobody else's to see.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from plumbline.transfer import detecting, formats, uploads
from plumbline.transfer.formats import Format
from plumbline.transfer.models import Upload
from plumbline.transfer.publish import Source, publish
from plumbline.transfer.rows import ImportedRow
from plumbline.transfer.showing import shown
from plumbline.transfer.staging import Staged, read, stage
from plumbline.transfer.undoing import undo

SHOWN_ROWS, SHOWN_FINDINGS = 3, 50
MOST_ATTEMPTS = 3
TELL_EVERY = 0.3  # seconds

State = Upload.State


class Overtaken(Exception):
    """Somebody said something else meanwhile; nothing is changed."""


def work(upload: Upload) -> None:
    """Do what the row asks for. What is wrong with the file or the wish ends up on the row."""
    with _alone(upload) as first:
        if not first or not upload.busy:
            return
        if upload.attempts >= MOST_ATTEMPTS:
            _fail(upload, f"It was tried {MOST_ATTEMPTS} times and never came to an end.")
            return
        Upload.objects.filter(pk=upload.pk, turn=upload.turn).update(attempts=upload.attempts + 1)
        try:
            {State.CHECKING: _check, State.WRITING: _write, State.UNDOING: _undo}[
                State(upload.state)
            ](upload)
        except ValueError as error:
            _fail(upload, str(error))
        except Overtaken:
            pass
        finally:
            _progress(upload).unlink(missing_ok=True)


def progress(upload: Upload) -> dict[str, Any]:
    """{"done", "total", "unit"}, or nothing while nothing is known."""
    try:
        found: dict[str, Any] = json.loads(_progress(upload).read_text())
        return found
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _check(upload: Upload) -> None:
    """Read all of it, and say what it is, how it begins and what is wrong with it."""
    if not upload.format:
        guess = detecting.detect(upload.path)
        if not guess.format:
            _move(upload, State.CHECKED, guess=asdict(guess))
            return
        upload.format, upload.guess = guess.format, asdict(guess)
    format = formats.find(upload.format)
    tell = _teller(upload, upload.path.stat().st_size, "bytes read")
    most = uploads.LARGEST_UNPACKED
    with read(upload.path, format, None, tell, most=most, shown=SHOWN_FINDINGS) as staged:
        report = _report(staged)
    _move(upload, State.CHECKED, format=upload.format, guess=upload.guess, report=report)


def _report(staged: Staged) -> dict[str, Any]:
    """What a check found. `prompts`, `answers` and `votes` are of the rows shown, not counted."""
    first: list[ImportedRow] = [row for _, row in next(staged.chunks(SHOWN_ROWS), [])]
    return {
        "rows": staged.rows,
        "repeated": staged.duplicates,
        "bad": staged.bad,
        "whole": staged.whole,
        "sha256": staged.sha256,
        "findings": [[line, one.field, one.sentence] for line, one in staged.findings],
        "shown": [shown(row) for row in first],
    }


def _write(upload: Upload) -> None:
    """All good rows in one transaction, at the end of which the upload is done."""
    format: Format = formats.find(upload.format)
    tell = _teller(upload, upload.path.stat().st_size, "bytes read")
    said = (upload.source, upload.licence, upload.campaign)
    source = Source(upload.format, upload.filename, upload.heldout, *said)
    with stage(
        upload.path,
        format,
        None,
        tell,
        leave_out=upload.leave_out,
        most=uploads.LARGEST_UNPACKED,
    ) as staged:
        tell = _teller(upload, len(staged), "rows written")
        with transaction.atomic():
            record, new = publish(staged, upload.project, upload.set_name, source, format, tell)
            _move(upload, State.DONE, made=record, report={**upload.report, "new": new})
    uploads.forget(upload)


def _undo(upload: Upload) -> None:
    record = upload.made
    if record is None:
        raise Overtaken
    with transaction.atomic():
        together = list(record.uploads.exclude(pk=upload.pk).values_list("pk", flat=True))
        gone = undo(record)
        Upload.objects.filter(pk__in=together).update(state=State.UNDONE)
        _move(upload, State.UNDONE, report={**upload.report, "undone": asdict(gone)})


def _fail(upload: Upload, sentence: str) -> None:
    """What is imported stays so when undoing it fails."""
    state = State.DONE if upload.state == State.UNDOING else State.FAILED
    _move(upload, state, error=sentence)


def _move(upload: Upload, state: State, **changes: Any) -> None:
    """Raises Overtaken when the row is not what this process began with."""
    here = Upload.objects.filter(pk=upload.pk, turn=upload.turn, state=upload.state)
    if not here.update(state=state, changed_at=timezone.now(), **changes):
        raise Overtaken


@contextmanager
def _alone(upload: Upload) -> Iterator[bool]:
    """Whether no other process works on this file. The lock goes with the process."""
    upload.path.parent.mkdir(parents=True, exist_ok=True)
    with upload.path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    if not upload.path.exists():
        upload.path.with_suffix(".lock").unlink(missing_ok=True)


def _teller(upload: Upload, total: int, unit: str) -> Callable[[int], object]:
    """Told how much more is done, it writes down how much that is together, now and then."""
    done, next_time = 0, 0.0
    path, aside = _progress(upload), upload.path.with_suffix(".progress.tmp")

    def advanced(more: int) -> None:
        nonlocal done, next_time
        done += more
        if time.monotonic() >= next_time:
            aside.write_text(json.dumps({"done": done, "total": total, "unit": unit}))
            os.replace(aside, path)
            next_time = time.monotonic() + TELL_EVERY

    return advanced


def _progress(upload: Upload) -> Path:
    return upload.path.with_suffix(".progress")
