"""`manage.py backup`: the database, and the files that its rows name, in one folder.

The database is dumped first: what a row of the dump names was committed before and is never
changed, so it is there to be copied afterwards. Scores and rubrics are left out, as whoever needs
them computes them again; so are base models, which come from elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from align import failpoints
from align.jobs import CHECKPOINTS, LOCK
from plumbline.fleet.models import Job
from plumbline.operations import archive, dumps
from plumbline.policies.models import Policy, RewardModel
from plumbline.transfer.models import Upload

FILES = "files"  # what lies below PLUMBLINE_HOME, by its place there
KEY = "secret_key"


@dataclass
class Made:
    """What a backup holds. `gone`: files that were removed while it was made, with their rows."""

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    gone: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # weights outside PLUMBLINE_HOME


def make(target: Path, *, with_secret_key: bool = False) -> Made:
    """Raises archive.Refused with a sentence, having written nothing."""
    made, began, started_at = Made(), time.monotonic(), timezone.now()
    archive.check_space(target.parent, dumps.size() + sum(one.stat().st_size for one in named()))
    with archive.writing(target) as writer:
        dumps.dump(writer.folder / dumps.name())
        writer.register(dumps.name())
        failpoints.reach("backup.after_dump")
        for path in named():
            name = path.relative_to(settings.HOME).as_posix()
            try:
                writer.copy(path, f"{FILES}/{name}")
            except FileNotFoundError:
                made.gone.append(name)
        if with_secret_key:
            _key(writer)
        made.elsewhere = sorted(_elsewhere())
        writer.finish(_facts(started_at, made))
        made.files, made.bytes = len(writer.files), writer.bytes
    made.seconds = time.monotonic() - began
    return made


def named() -> Iterator[Path]:
    """Files below PLUMBLINE_HOME that rows name: run folders, without the checkpoints of jobs that
    are over, and uploads."""
    for job in Job.objects.order_by("pk").iterator():
        for path in sorted(job.folder.rglob("*")) if job.folder.is_dir() else ():
            inside = path.relative_to(job.folder).parts
            if job.over and inside[0] == CHECKPOINTS or inside[0] == LOCK:
                continue
            if path.is_file() and not path.is_symlink():
                yield path
    for upload in Upload.objects.order_by("pk").iterator():
        if upload.path.is_file():
            yield upload.path


def _elsewhere() -> Iterator[str]:
    """Weights that rows name and that lie outside the run folders."""
    runs = Path(settings.RUNS_DIR)
    for rows in (Policy.objects.exclude(path=""), RewardModel.objects.all()):
        for path in rows.values_list("path", flat=True):
            if not Path(path).is_relative_to(runs):
                yield str(path)


def _key(writer: archive.Writer) -> None:
    path = Path(settings.HOME) / KEY
    if not path.is_file():
        raise archive.Refused(
            "There is no file with the secret key: SECRET_KEY comes from the environment. Keep it "
            "where your other secrets are."
        )
    writer.copy(path, KEY)
    (writer.folder / KEY).chmod(0o600)


def _facts(started_at: Any, made: Made) -> dict[str, Any]:
    applied = MigrationRecorder(connection).applied_migrations()
    return {
        "made_at": started_at.isoformat(),
        "release": version("plumbline"),
        "home": str(settings.HOME),
        "database": dumps.name(),
        "migrations": sorted(f"{app} {name}" for app, name in applied),
        "base_models": sorted(set(Policy.objects.values_list("base_model", flat=True))),
        "elsewhere": made.elsewhere,
        "gone": made.gone,
    }
