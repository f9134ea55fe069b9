"""`manage.py restore`: a backup into an empty home and an empty database, then verified.

Nothing is written before every byte of the backup was checked. From then on a journal in the home
says what is under way: which backup, where the files that were there go, and where a dump of the
database that was there is. A restore that was killed anywhere is ended by the same command, which
goes on by the journal, or taken back by `undo`. Each step may run twice.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from align import failpoints
from align.jobs import sync_dir
from plumbline.fleet.models import Job
from plumbline.judges.models import JudgeVersion
from plumbline.operations import archive, dumps, verifying
from plumbline.operations.backup import FILES, KEY
from plumbline.policies.models import Policy, RewardModel

PARTS = ("runs", "uploads")  # of a home, that a backup holds
JOURNAL = "restore.json"


@dataclass
class Restored:
    made_at: str
    files: int
    seconds: float = 0.0
    moved: int = 0  # rows whose paths begin with the new home
    key: bool = False  # whether the secret key came too
    aside: list[str] = field(default_factory=list)  # where what was there before is now
    report: verifying.Report | None = None


@dataclass(frozen=True)
class Journal:
    """A restore under way. Places are names in the home. `parts`: of those that were not empty,
    where they go; `database`: where its dump goes, "" where it was empty; `key`: where the secret
    key goes, "" where there was none."""

    source: str
    sha256: str  # of the backup's manifest
    fresh: str
    parts: dict[str, str]
    database: str
    key: str

    @property
    def aside(self) -> list[str]:
        home = Path(settings.HOME)
        kept = [*self.parts.values(), *filter(None, (self.database, self.key))]
        return [str(home / name) for name in kept if (home / name).exists()]


def restore(source: Path, *, replace: bool = False, engines: bool = True) -> Restored:
    """Raises archive.Refused with a sentence: before anything has changed, where the backup is not
    whole, or where there is something already and `replace` was not said."""
    began = time.monotonic()
    facts = archive.read(source)
    home = Path(settings.HOME)
    with archive.full_disk_refused(home, "make room: the same command goes on, --undo takes back."):
        done = _restore(source, facts, home, replace)
    # The audit is sealed under the old key; this process began with another one, perhaps.
    done.report = verifying.verify(engines=engines, but=("audit",))
    done.seconds = time.monotonic() - began
    return done


def _restore(source: Path, facts: dict[str, Any], home: Path, replace: bool) -> Restored:
    """All steps but the look at what came of them."""
    journal = under_way()
    if journal is None:
        journal = _begin(source, facts, home, replace)
    elif journal.sha256 != facts["sha256"]:
        raise archive.Refused(
            f"A restore of {journal.source} was begun here and has not ended; this is another one."
        )
    _keep_database(home, journal)
    _put_files(source, home, journal)
    failpoints.reach("restore.before_database")
    dumps.load(source / facts["database"])
    failpoints.reach("restore.before_migrations")
    call_command("migrate", verbosity=0, interactive=False)
    done = Restored(facts["made_at"], len(facts["files"]))
    done.key = _key(source, home, journal)
    failpoints.reach("restore.before_rows")
    done.moved = _move(facts["home"], str(home))
    done.aside = journal.aside
    failpoints.reach("restore.before_end")
    _end(home)
    return done


def undo() -> Journal:
    """Bring back what was there before a restore that has not ended. Raises archive.Refused where
    there is none. May be killed anywhere and begun again."""
    journal, home = under_way(), Path(settings.HOME)
    if journal is None:
        raise archive.Refused("No restore was begun here that has not ended.")
    shutil.rmtree(home / journal.fresh, ignore_errors=True)
    for part in PARTS:
        failpoints.reach("restore.undo")
        aside = journal.parts.get(part)
        if aside is None or (home / aside).exists():
            shutil.rmtree(home / part, ignore_errors=True)  # what the restore put there
        if aside is not None and (home / aside).exists():
            (home / aside).rename(home / part)
        elif aside is None:
            (home / part).mkdir(mode=0o700, exist_ok=True)
    failpoints.reach("restore.undo")
    if not journal.database:
        dumps.clear()
    elif (home / journal.database).exists():
        dumps.load(home / journal.database)
    failpoints.reach("restore.undo")
    if not journal.key:
        (home / KEY).unlink(missing_ok=True)
    elif (home / journal.key).exists():
        os.replace(home / journal.key, home / KEY)
    failpoints.reach("restore.undo")
    for path in home.glob(".*.restoring"):  # half of something
        path.unlink()
    _end(home)
    if journal.database:
        (home / journal.database).unlink(missing_ok=True)
    return journal


def under_way() -> Journal | None:
    """The restore that was begun here and has not ended."""
    try:
        return Journal(**json.loads((Path(settings.HOME) / JOURNAL).read_text()))
    except FileNotFoundError:
        return None


def _begin(source: Path, facts: dict[str, Any], home: Path, replace: bool) -> Journal:
    """Look at what is there, and write down what will become of it."""
    taken = [part for part in PARTS if any(_inside(home / part))]
    was_empty = dumps.empty()
    if not replace:
        _refuse_taken([home / part for part in taken], was_empty)
    wanted = sum(one["size"] for one in facts["files"].values())
    archive.check_space(home, wanted + (0 if was_empty else dumps.size()))
    if dumps.name() != facts["database"]:
        raise archive.Refused(
            f"The backup is of another kind of database ({facts['database']}) than this one "
            f"({dumps.name()})."
        )
    stamp = f"before-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    journal = Journal(
        source=str(source),
        sha256=facts["sha256"],
        fresh=f".restoring-{stamp}",
        parts={part: f"{part}.{stamp}" for part in taken},
        database="" if was_empty else f"{stamp}.{dumps.name()}",
        key=f"{KEY}.{stamp}" if (home / KEY).exists() else "",
    )
    failpoints.reach("restore.before_journal")
    _write(home / JOURNAL, json.dumps(asdict(journal)).encode())
    return journal


def _end(home: Path) -> None:
    (home / JOURNAL).unlink()
    sync_dir(home)


def _write(target: Path, content: bytes) -> None:
    """All of it under its name, or nothing; for this user alone."""
    aside = target.with_name(f".{target.name}.restoring")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    os.replace(aside, target)
    sync_dir(target.parent)


def _refuse_taken(taken: list[Path], was_empty: bool) -> None:
    if taken:
        raise archive.Refused(
            f"{taken[0]} is not empty. Restore into a fresh PLUMBLINE_HOME, or say --replace: what "
            "is there is moved aside."
        )
    if not was_empty:
        raise archive.Refused(
            f"The database {connection.settings_dict['NAME']} is not empty. Restore into a fresh "
            "one, or say --replace: what it holds is dumped into PLUMBLINE_HOME first."
        )


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _keep_database(home: Path, journal: Journal) -> None:
    """Dump what the database holds, once: as long as there is no dump, nothing was loaded."""
    failpoints.reach("restore.before_keeping")
    target = home / journal.database
    if not journal.database or target.exists():
        return
    aside = home / f".{journal.database}.restoring"
    aside.unlink(missing_ok=True)
    dumps.dump(aside)
    aside.chmod(0o600)
    with aside.open("rb") as written:
        os.fsync(written.fileno())
    failpoints.reach("restore.before_kept")
    aside.rename(target)
    sync_dir(home)


def _put_files(source: Path, home: Path, journal: Journal) -> None:
    """The backup's files in the place of what was there, which goes aside, once."""
    fresh = home / journal.fresh
    shutil.rmtree(fresh, ignore_errors=True)
    failpoints.reach("restore.before_copy")
    _copy(source, fresh)
    for part in PARTS:
        failpoints.reach("restore.before_files")
        aside = journal.parts.get(part)
        if aside is not None and not (home / aside).exists():
            (home / part).rename(home / aside)
            failpoints.reach("restore.between_files")
        if (fresh / part).is_dir():
            shutil.rmtree(home / part, ignore_errors=True)  # empty, or put there by a killed run
            (fresh / part).rename(home / part)
        sync_dir(home)
    shutil.rmtree(fresh, ignore_errors=True)


def _copy(source: Path, fresh: Path) -> None:
    if (source / FILES).is_dir():
        shutil.copytree(source / FILES, fresh)
    else:
        fresh.mkdir(parents=True)
    for folder, _, names in os.walk(fresh):
        for name in names:
            with (Path(folder) / name).open("rb") as written:
                os.fsync(written.fileno())


def _key(source: Path, home: Path, journal: Journal) -> bool:
    """Put the secret key back, if the backup has it and this process was not given one."""
    if not (source / KEY).is_file():
        return False
    failpoints.reach("restore.before_key")
    if journal.key and not (home / journal.key).exists():
        _write(home / journal.key, (home / KEY).read_bytes())
    failpoints.reach("restore.between_keys")
    _write(home / KEY, (source / KEY).read_bytes())
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
