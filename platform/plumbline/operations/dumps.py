"""The database into one file and back: SQLite by its backup API, PostgreSQL by pg_dump.

Either is one consistent moment, whatever is written meanwhile. A password goes to the programs of
PostgreSQL by their environment, never on a command line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db import connection

from align import failpoints
from align.jobs import sync_dir
from plumbline.operations.archive import Refused

NAMES = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
SECONDS = 6 * 3600.0
# Of PostgreSQL: all that migrations make, whatever release they are of. What an extension brought
# stays.
CLEAR = """
DO $$ DECLARE one record; BEGIN
FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('DROP TABLE public.%I CASCADE', one.tablename);
END LOOP;
FOR one IN SELECT oid::regprocedure AS name FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e') LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', one.name);
END LOOP;
END $$;
"""


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
    if source.suffix != Path(name()).suffix:
        raise Refused(
            f"The backup is of another kind of database ({source.name}) than this one ({name()})."
        )
    connection.close()
    if connection.vendor == "postgresql":
        _load(source)
        return
    path = _path()
    aside = path.with_name(f".{path.name}.restoring")
    shutil.copyfile(source, aside)
    with closing(_open(aside, "rw")) as copy:
        _check(copy, source)
    with aside.open("rb") as written:
        os.fsync(written.fileno())
    failpoints.reach("restore.in_database")
    for beside in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    os.replace(aside, path)
    sync_dir(path.parent)


def clear() -> None:
    """Take everything out of the database."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(CLEAR)
        connection.close()
        return
    connection.close()
    path = _path()
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)


def _load(source: Path) -> None:
    """What is there goes and the dump comes in one transaction, which only we end: where either
    program dies, and where this process does, nothing has happened."""
    arguments = ["--no-owner", "--no-privileges", "--file=-", str(source)]
    options = ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    with tempfile.TemporaryFile() as said:
        reading = _start(["pg_restore", *arguments], stdout=subprocess.PIPE, stderr=said)
        writing = _start(
            ["psql", "--no-password", *_where(), *options],
            env=_environment(),
            stdin=subprocess.PIPE,
            stderr=said,
        )
        assert reading.stdout is not None
        assert writing.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError), reading, writing:
                writing.stdin.write(b"BEGIN;" + CLEAR.encode())
                shutil.copyfileobj(reading.stdout, writing.stdin)
                failpoints.reach("restore.in_database")
                if reading.wait() == 0:
                    writing.stdin.write(b"COMMIT;\n")
        finally:
            reading.kill()
            writing.kill()
        if reading.returncode or writing.returncode:
            said.seek(0)
            raise _failed("pg_restore", said.read().decode(errors="replace"))


def _start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **options)
    except FileNotFoundError:
        raise _missing(command[0]) from None


def _check(copy: sqlite3.Connection, path: Path) -> None:
    said = [row[0] for row in copy.execute("PRAGMA integrity_check(1)")]
    if said != ["ok"]:
        raise Refused(f"{path} is damaged: {said[0]}")


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)


def _path() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


def _where() -> list[str]:
    told: dict[str, Any] = connection.settings_dict
    places = {"--host": told["HOST"], "--port": told["PORT"], "--username": told["USER"]}
    where = [f"{option}={value}" for option, value in places.items() if value]
    return [*where, f"--dbname={told['NAME']}"]


def _environment() -> dict[str, str]:
    password = connection.settings_dict["PASSWORD"]
    return os.environ | ({"PGPASSWORD": password} if password else {})


def _program(program: str, arguments: Sequence[str]) -> None:
    """A program of PostgreSQL on this database; it may be no older than the server."""
    command = [program, "--no-password", *_where(), *arguments]
    try:
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, timeout=SECONDS
        )
    except FileNotFoundError:
        raise _missing(program) from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{program} did not end within {SECONDS / 3600:.0f} hours.") from None
    if done.returncode:
        raise _failed(program, done.stderr or f"status {done.returncode}")


def _missing(program: str) -> Refused:
    return Refused(f"{program} is not installed here (apt: postgresql-client).")


def _failed(program: str, said: str) -> Refused:
    lines = said.strip().splitlines() or ["it said nothing"]
    if "No space left" in said:
        return Refused(f"The disk is full; {program} says: {lines[-1]}")
    return Refused(f"{program} failed: {lines[-1]}")
