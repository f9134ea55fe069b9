"""Where tests keep their things and which database they use, settled before settings are read.

Loaded with `-p tests.environment`, so it comes before pytest-django imports the settings. Tests
write under a home of their own, never under the one a running demo uses; `--db postgres` starts a
PostgreSQL of their own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

STRICT = os.environ.get("STRICT") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--db", choices=("sqlite", "postgres"), default="sqlite")


class Postgres:
    """A PostgreSQL cluster in a temporary folder, listening on a unix socket only.

    It refuses to run as root, so root runs it as the system's `postgres` user.
    """

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        if not found:
            raise pytest.UsageError("--db postgres needs PostgreSQL (apt: postgresql)")
        self.bin = found[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="plumbline-pg-"))
        self.url = "postgresql://postgres@/postgres"

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        data = self.folder / "data"
        self._run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        # Autovacuum sees no row of a test's open transaction, and would have queries planned for
        # empty tables whenever it happens to pass.
        options += " -c autovacuum=off"
        self._run(
            "pg_ctl", "-D", str(data), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )
        os.environ["PGHOST"] = str(self.folder)

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *args: str) -> None:
        command = [str(self.bin / program), *args]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")


def _wants_postgres(argv: list[str]) -> bool:
    return "--db=postgres" in argv or ["--db", "postgres"] in [
        argv[k : k + 2] for k in range(len(argv))
    ]


def _settle() -> None:
    home = tempfile.mkdtemp(prefix="plumbline-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["PLUMBLINE_HOME"] = home
    os.environ.pop("DATABASE_URL", None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # suites and what they start share few cores
    os.environ["JOB_NICE"] = "0"  # and one suite's jobs wait for no other suite
    if _wants_postgres(sys.argv):
        cluster = Postgres()
        cluster.start()
        atexit.register(cluster.stop)
        os.environ["DATABASE_URL"] = cluster.url


_settle()
