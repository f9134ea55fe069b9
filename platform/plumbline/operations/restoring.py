"""`manage.py restore`: a backup into an empty home and an empty database, then verified.

Nothing is written before every byte of the backup was checked. Files come first and the database
last, so a restore that was killed leaves no database that names files which are not there; where it
was to replace what was there, the old database and, moved aside, its files. Restore again then.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from align import failpoints
from plumbline.fleet.models import Job
from plumbline.judges.models import JudgeVersion
from plumbline.operations import archive, dumps, verifying
from plumbline.operations.backup import FILES, KEY
from plumbline.policies.models import Policy, RewardModel

PARTS = ("runs", "uploads")  # of a home, that a backup holds


@dataclass
class Restored:
    made_at: str
    files: int
    seconds: float = 0.0
    moved: int = 0  # rows whose paths begin with the new home
    key: bool = False  # whether the secret key came too
    aside: list[str] = field(default_factory=list)  # where what was there before is now
    report: verifying.Report | None = None


def restore(source: Path, *, replace: bool = False, engines: bool = True) -> Restored:
    """Raises archive.Refused with a sentence: before anything has changed, where the backup is not
    whole, or where there is something already and `replace` was not said."""
    began = time.monotonic()
    facts = archive.read(source)
    home = Path(settings.HOME)
    taken = [home / part for part in PARTS if any(_inside(home / part))]
    if not replace:
        _refuse_taken(taken)
    archive.check_space(home, sum(one["size"] for one in facts["files"].values()))
    done = Restored(facts["made_at"], len(facts["files"]))
    fresh = home / f".restoring-{uuid.uuid4().hex[:8]}"
    with archive.full_disk_refused(home, "make room, and restore again with --replace."):
        try:
            _copy(source, fresh)
            if replace:
                done.aside = _set_aside(taken)
            failpoints.reach("restore.before_files")
            for part in PARTS:
                if (fresh / part).is_dir():
                    shutil.rmtree(home / part, ignore_errors=True)  # an empty one
                    (fresh / part).rename(home / part)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        failpoints.reach("restore.before_database")
        dumps.load(source / facts["database"])
    call_command("migrate", verbosity=0, interactive=False)
    done.key = _key(source, home)
    done.moved = _move(facts["home"], str(home))
    # The audit is sealed under the old key; this process began with another one, perhaps.
    done.report = verifying.verify(engines=engines, but=("audit",))
    done.seconds = time.monotonic() - began
    return done


def _refuse_taken(taken: list[Path]) -> None:
    if taken:
        raise archive.Refused(
            f"{taken[0]} is not empty. Restore into a fresh PLUMBLINE_HOME, or say --replace: what "
            "is there is moved aside."
        )
    if not dumps.empty():
        raise archive.Refused(
            f"The database {connection.settings_dict['NAME']} is not empty. Restore into a fresh "
            "one, or say --replace: what it holds is lost."
        )


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _copy(source: Path, fresh: Path) -> None:
    if (source / FILES).is_dir():
        shutil.copytree(source / FILES, fresh)
    else:
        fresh.mkdir(parents=True)
    for folder, _, names in os.walk(fresh):
        for name in names:
            with (Path(folder) / name).open("rb") as written:
                os.fsync(written.fileno())


def _set_aside(taken: list[Path]) -> list[str]:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    moved = []
    for path in taken:
        aside = path.with_name(f"{path.name}.before-{stamp}")
        path.rename(aside)
        moved.append(str(aside))
    return moved


def _key(source: Path, home: Path) -> bool:
    """Put the secret key back, if the backup has it and this process was not given one."""
    if not (source / KEY).is_file():
        return False
    target = home / f".{KEY}.restoring"
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write((source / KEY).read_bytes())
    os.replace(target, home / KEY)
    return True


@transaction.atomic
def _move(old: str, new: str) -> int:
    """Rows that name a place in the home that was backed up name the new one; how many."""
    if old == new:
        return 0
    moved = 0
    for model in (Policy, RewardModel):
        for row in model.objects.filter(path__startswith=f"{old}/"):
            row.path = new + row.path.removeprefix(old)
            row.save(update_fields=["path"])
            moved += 1
    for version in JudgeVersion.objects.filter(settings__folder__startswith=f"{old}/"):
        version.settings["folder"] = new + version.settings["folder"].removeprefix(old)
        JudgeVersion.objects.filter(pk=version.pk).update(settings=version.settings)
        moved += 1
    for job in Job.objects.filter(state__in=(Job.State.QUEUED, Job.State.RUNNING)):
        spec = _elsewhere(job.spec, old, new)
        if spec != job.spec:
            Job.objects.filter(pk=job.pk).update(spec=spec)
            path = job.folder / "job.json"
            path.write_text(json.dumps(_elsewhere(json.loads(path.read_text()), old, new)))
            moved += 1
    return moved


def _elsewhere(value: Any, old: str, new: str) -> Any:
    """JSON with every path below `old` below `new`."""
    if isinstance(value, dict):
        return {name: _elsewhere(one, old, new) for name, one in value.items()}
    if isinstance(value, list):
        return [_elsewhere(one, old, new) for one in value]
    if isinstance(value, str) and value.startswith(f"{old}/"):
        return new + value.removeprefix(old)
    return value
