"""What a person does to a file that comes in: give it, say what it is, import, drop, undo.

Each step only says what is wanted; whatever takes long is done by `bringing.py` in a process of its
own. A step that comes too late, because another was first, changes nothing and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.audit import record as audit
from plumbline.transfer.models import Import, Upload
from plumbline.transfer.undoing import refusal

LARGEST_FILE = 256 << 20  # bytes as it is sent; the command takes any
LARGEST_UNPACKED = 2 << 30  # bytes of lines in it
MOST_WAITING = 50  # files of a project that are not imported yet

State = Upload.State


def receive(
    project: Project, author: User, name: str, pieces: Iterable[bytes], **said: Any
) -> Upload:
    """Keep a file and have it checked. Raises ValueError for one more than may wait."""
    waiting = Upload.objects.filter(project=project).exclude(state__in=(State.DONE, State.UNDONE))
    if waiting.count() >= MOST_WAITING:
        raise ValueError(f"{MOST_WAITING} files wait already; import or drop some first.")
    upload = Upload(project=project, author=author, filename=_plain(name), size=0, **said)
    upload.path.parent.mkdir(parents=True, exist_ok=True)
    with _private(upload.path) as file:
        for piece in pieces:
            file.write(piece)
            upload.size += len(piece)
    with transaction.atomic():
        upload.save()
        audit.record("import.received", upload, project=project, actor=author, size=upload.size)
    return upload


def check(upload: Upload, **said: Any) -> bool:
    """Have it read again, as another format perhaps."""
    return _step(upload, Upload.OPEN, state=State.CHECKING, report={}, **said)


def bring_in(upload: Upload, **said: Any) -> bool:
    """Have what was checked imported."""
    return _step(upload, (State.CHECKED,), state=State.WRITING, **said)


def drop(upload: Upload) -> bool:
    """Forget a file of which nothing is imported."""
    with transaction.atomic():
        gone, _ = Upload.objects.filter(pk=upload.pk, state__in=Upload.OPEN).delete()
        if gone:
            audit.record("import.dropped", upload, project=upload.project_id)
    if gone:
        forget(upload)
    return bool(gone)


def undo(record: Import, author: User) -> Upload:
    """Have an import taken back. Raises ValueError when it cannot be."""
    if why := refusal(record):
        raise ValueError(why)
    with transaction.atomic():
        upload = record.uploads.filter(state__in=(State.DONE, State.UNDOING)).first()
        if upload is None:  # it came by the command
            upload = Upload(
                project=record.set.project,
                author=author,
                filename=record.filename,
                size=0,
                format=record.format,
                set_name=record.set.name,
                state=State.DONE,
                made=record,
            )
            upload.save()
        _step(upload, (State.DONE,), state=State.UNDOING)
        audit.record("import.taken_back", upload, project=record.set.project_id, actor=author)
    return upload


def forget(upload: Upload) -> None:
    """The file and what lay beside it."""
    for path in (upload.path, *upload.path.parent.glob(f"{upload.pk}.*")):
        path.unlink(missing_ok=True)


def _step(upload: Upload, before: Iterable[str], **changes: Any) -> bool:
    """Move it on, if it still is where the person saw it."""
    moved = Upload.objects.filter(pk=upload.pk, turn=upload.turn, state__in=tuple(before)).update(
        **changes, turn=upload.turn + 1, attempts=0, error="", changed_at=timezone.now()
    )
    if moved:
        upload.refresh_from_db()
    return bool(moved)


def _plain(name: str) -> str:
    """A file's name to be shown, never to be opened."""
    return "".join(one for one in name if one.isprintable())[-255:] or "unnamed"


def _private(path: Path) -> Any:
    settings.UPLOADS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
