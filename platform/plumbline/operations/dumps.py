"""The database into one file and back: SQLite by its backup API, PostgreSQL by pg_dump.

Either is one consistent moment, whatever is written meanwhile. A password goes to the programs of
PostgreSQL by their environment, never on a command line.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db import connection

from plumbline.operations.archive import Refused

NAMES = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
SECONDS = 6 * 3600.0


def name() -> str:
    """Of the file in a backup."""
    return NAMES[connection.vendor]


def size() -> int:
    """Bytes that the database takes now."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        else:
            cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def dump(target: Path) -> None:
    """Raises Refused with what the program said."""
    if connection.vendor == "postgresql":
        _program(
            "pg_dump", ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"]
        )
        return
    with closing(_open(_path(), "ro")) as source, closing(sqlite3.connect(target)) as copy:
        source.execute("PRAGMA busy_timeout=20000")
        source.backup(copy)  # in one step: writers wait for it
        copy.execute("PRAGMA journal_mode=DELETE")
        _check(copy, target)


def empty() -> bool:
    """Whether there is no table in the database."""
    connection.close()
    if connection.vendor == "sqlite" and not _path().exists():
        return True
    found = not connection.introspection.table_names()
    connection.close()
    return found


def load(source: Path) -> None:
    """Put a dump into the database, which is emptied first. Raises Refused; then nothing has
    changed in it."""
    if source.name != name():
        raise Refused(
            f"The backup is of another kind of database ({source.name}) than this one ({name()})."
        )
    connection.close()
    if connection.vendor == "postgresql":
        _program(
            "pg_restore",
            ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
            + ["--clean", "--if-exists", str(source)],
        )
        return
    path = _path()
    aside = path.with_name(f".{path.name}.restoring")
    shutil.copyfile(source, aside)
    with closing(_open(aside, "rw")) as copy:
        _check(copy, source)
    for beside in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    os.replace(aside, path)


def _check(copy: sqlite3.Connection, path: Path) -> None:
    said = [row[0] for row in copy.execute("PRAGMA integrity_check(1)")]
    if said != ["ok"]:
        raise Refused(f"{path} is damaged: {said[0]}")


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)


def _path() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


def _program(program: str, arguments: Sequence[str]) -> None:
    """pg_dump or pg_restore on this database; theirs may be no older than the server."""
    told: dict[str, Any] = connection.settings_dict
    places = {"--host": told["HOST"], "--port": told["PORT"], "--username": told["USER"]}
    where = [f"{option}={value}" for option, value in places.items() if value]
    environment = os.environ | ({"PGPASSWORD": told["PASSWORD"]} if told["PASSWORD"] else {})
    command = [program, "--no-password", *where, f"--dbname={told['NAME']}", *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except FileNotFoundError:
        raise Refused(f"{program} is not installed here (apt: postgresql-client).") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{program} did not end within {SECONDS / 3600:.0f} hours.") from None
    if done.returncode:
        said = done.stderr.strip() or f"status {done.returncode}"
        if "No space left" in said:
            raise Refused(f"The disk is full; {program} says: {said.splitlines()[-1]}")
        raise Refused(f"{program} failed: {said.splitlines()[-1]}")
