"""A restore that is killed at any of its steps is ended by the same command, or taken back: the
database, the files and the key are all of one backup or all of what was there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site_settings
from django.db import connection, connections

from align import failpoints
from plumbline import settings as own_settings
from plumbline.accounts.models import User
from plumbline.fleet.models import Job
from plumbline.operations import archive, backup, dumps, restoring
from plumbline.transfer import uploads
from tests.operations.test_backup import elsewhere  # noqa: F401  # a fixture

KILLED = -signal.SIGKILL
PLACES = (
    *("before_journal", "before_keeping", "before_kept", "before_copy", "before_files"),
    *("between_files", "before_files after 1", "before_database", "in_database"),
    *("before_migrations", "before_key", "between_keys", "before_rows", "before_end"),
)
# What is another matter on PostgreSQL, whose dumps take longer.
OF_DATABASE = ("before_kept", "between_files", "in_database", "before_migrations", "before_end")


class Installation:
    """Another home and database; what is done there is done by a forked process, which may be
    killed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.home = Path(environment["PLUMBLINE_HOME"])
        self._database = own_settings._database(environment["DATABASE_URL"])
        self.orders, self._said = folder / "orders", folder / "said"
        self.orders.mkdir()

    def run(self, act: Callable[[], Any], kill: str = "") -> Any:
        """What `act` gave back, or KILLED where it came to the place `kill`."""
        shutil.rmtree(self.orders)
        self.orders.mkdir()
        if kill:
            place, _, after = kill.partition(" ")
            (self.orders / f"restore.{place}").write_text(f"kill {after}".strip())
        child = os.fork()
        if child == 0:
            self._live(act)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == KILLED:
            return KILLED
        said = json.loads(self._said.read_text())
        assert status == 0, said
        return said

    def _live(self, act: Callable[[], Any]) -> None:
        """In the child: the parent's connection is left as it is, and never closed from here."""
        status, said = 1, ""
        try:
            self._parents = connections["default"]
            del connections["default"]
            told = connections.settings["default"]
            told |= {name: self._database[name] for name in ("NAME",)}
            site_settings.HOME = self.home
            for name in ("runs", "uploads", "scores", "rubrics"):
                setattr(site_settings, f"{name.upper()}_DIR", self.home / name)
            failpoints.FOLDER = str(self.orders)
            said, status = act(), 0
        except BaseException:
            said = traceback.format_exc()
        finally:
            self._said.write_text(json.dumps(said))
            os._exit(status)

    def restore(self, source: Path, kill: str = "", replace: bool = True) -> Any:
        def act() -> list[str]:
            return restoring.restore(source, replace=replace, engines=False).aside

        return self.run(act, kill)

    def undo(self, kill: str = "") -> Any:
        return self.run(lambda: restoring.undo().source, kill)

    def state(self) -> dict[str, Any]:
        """Who is in the database, and what the files say."""

        def look() -> dict[str, Any]:
            empty = dumps.empty()
            names = [] if empty else list(User.objects.values_list("username", flat=True))
            files = [
                path.read_text()
                for part in restoring.PARTS
                for path in sorted((self.home / part).rglob("*"))
                if path.is_file()
            ]
            key = self.home / backup.KEY
            return {
                "names": sorted(names),
                "files": files,
                "key": key.read_text() if key.exists() else "",
            }

        return dict(self.run(look))

    def leftovers(self) -> list[str]:
        """What a restore in the middle has in the home."""
        return [
            path.name
            for path in self.home.iterdir()
            if path.name == restoring.JOURNAL or path.name.startswith(".")
        ]


@pytest.fixture
def there(tmp_path, elsewhere) -> Installation:  # noqa: F811
    return Installation(tmp_path, elsewhere)


@pytest.fixture
def backups(shared_db, homes, project, alice, tmp_path) -> tuple[Path, Path]:
    """Two of one installation, that differ in the database, in both kinds of files and in the
    key."""
    job = Job.objects.create(
        project=project, kind="train", queue="gpu", title="T", spec={}, state="succeeded"
    )
    job.folder.mkdir(parents=True)
    made = []
    for name in ("first", "second"):
        User.objects.create_user(f"of-the-{name}")
        (job.folder / "result").write_text(f"{name} result")
        uploads.receive(
            project, alice, f"{name}.jsonl", [f"{name} upload\n".encode()], set_name="S"
        )
        (homes / backup.KEY).write_text(name * 20)
        backup.make(tmp_path / name, with_secret_key=True)
        made.append(tmp_path / name)
    return made[0], made[1]


def test_killed_anywhere_it_is_taken_back_or_ended(there, backups):
    there.restore(backups[0], replace=False)
    there_now, other = there.state(), backups[1]
    assert "of-the-second" not in there_now["names"]
    reached = {backups[0]: there_now}
    now, other = backups
    for place in PLACES if connection.vendor == "sqlite" else OF_DATABASE:
        assert there.restore(other, place) == KILLED, place
        if place != "before_journal":
            assert there.undo() == str(other), place
        assert there.state() == reached[now], place
        assert there.leftovers() == [], place
        # Again, and this time it is ended.
        assert there.restore(other, place) == KILLED, place
        aside = there.restore(other)
        there_now = there.state()
        assert there_now == reached.setdefault(other, there_now), place
        assert there.leftovers() == [], place
        assert len(aside) == 4, place  # runs, uploads, the database and the key, once each
        for path in aside:
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
        now, other = other, now
    first, second = reached[backups[0]], reached[backups[1]]
    assert set(second["names"]) - set(first["names"]) == {"of-the-second"}
    assert first["key"] == "first" * 20
    assert second["key"] == "second" * 20
    assert "first result" in first["files"]
    assert {"second result", "second upload\n", "first upload\n"} <= set(second["files"])


@pytest.mark.sqlite
@pytest.mark.parametrize("taking_back", range(6))
def test_taking_back_may_be_killed_too(there, backups, taking_back):
    there.restore(backups[0], replace=False)
    before = there.state()
    assert there.restore(backups[1], "before_end") == KILLED
    kill = f"undo after {taking_back}" if taking_back < 5 else ""
    assert there.undo(kill) == (KILLED if kill else str(backups[1]))
    if kill:
        there.undo()
    assert there.state() == before
    assert there.leftovers() == []


def test_a_restore_into_nothing_is_taken_back_to_nothing(there, backups):
    assert there.restore(backups[0], "before_migrations", replace=False) == KILLED
    assert there.state()["names"] != []
    there.undo()
    assert there.state() == {"names": [], "files": [], "key": ""}
    assert there.leftovers() == []


def test_another_backup_is_refused_until_the_first_is_ended(there, backups):
    def other() -> str:
        try:
            restoring.restore(backups[1], replace=True, engines=False)
        except archive.Refused as refused:
            return str(refused)
        return ""

    assert there.restore(backups[0], "before_files", replace=False) == KILLED
    assert "has not ended; this is another one" in there.run(other)
    # The same one goes on without --replace: it had begun in an empty home.
    there.restore(backups[0], replace=False)
    assert "of-the-first" in there.state()["names"]


def test_nothing_is_taken_back_where_nothing_was_begun(there):
    def undo() -> str:
        with pytest.raises(archive.Refused, match="No restore was begun"):
            restoring.undo()
        return "refused"

    assert there.run(undo) == "refused"


def test_tables_that_the_backup_has_not_are_gone_after_it(there, backups):
    """A backup of an earlier release over the database of a later one."""

    def later() -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE later (id integer)")

    def tables() -> list[str]:
        return connection.introspection.table_names()

    there.restore(backups[0], replace=False)
    there.run(later)
    assert "later" in there.run(tables)
    there.restore(backups[1])
    assert "later" not in there.run(tables)
