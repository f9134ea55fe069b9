"""A PostgreSQL to be killed, on a TCP port, so that a proxy may stand before it.

What is committed is on the disk, as in production. Root runs it as the system's `postgres` user,
because it refuses to run as root. After a SIGKILL of its whole tree it may say that another server
might be running; then the supervisor's next try succeeds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.ports import free_port

NAME = "postgres"


class Cluster:
    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise RuntimeError("PostgreSQL is not installed (apt: postgresql)")
        self.bin, self.port = found[-1].parent, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="plumbline-chaos-pg-"))
        self.data, self.log = self.folder / "data", self.folder / "postgres.log"
        self.user = NAME if os.geteuid() == 0 else None
        self._looking: psycopg.Connection[dict[str, Any]] | None = None

    def url(self, port: int) -> str:
        return f"postgresql://{NAME}@127.0.0.1:{port}/{NAME}"

    def make(self) -> None:
        if self.user:
            shutil.chown(self.folder, self.user, self.user)
        command = [str(self.bin / "initdb"), "-D", str(self.data), "-U", NAME, "-A", "trust"]
        done = subprocess.run(
            [*command, "--no-sync"], user=self.user, group=self.user, cwd="/", capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.decode()}")

    def command(self) -> list[str]:
        given = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_wal_size": "1GB",
            "max_connections": 100,
            "track_commit_timestamp": "on",  # a row's own time is of before its commit
        }
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin / "postgres"), "-D", str(self.data), *options]

    def answers(self) -> bool:
        try:
            return bool(self.rows("SELECT 1 AS one"))
        except psycopg.Error:
            return False

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """A look at the database past all proxies. Raises psycopg.Error while it is away."""
        for last in (False, True):
            try:
                if self._looking is None or self._looking.closed:
                    self._looking = psycopg.connect(
                        self.url(self.port),
                        autocommit=True,
                        row_factory=dict_row,
                        connect_timeout=3,
                    )
                return self._looking.execute(query, values).fetchall()
            except psycopg.OperationalError:
                if self._looking is not None:
                    self._looking.close()
                if last:
                    raise
        raise AssertionError

    def patient_rows(self, query: str, *values: Any, seconds: float = 60) -> list[dict[str, Any]]:
        """The same, waiting for a database that is away."""
        until = time.monotonic() + seconds
        while True:
            try:
                return self.rows(query, *values)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def remove(self) -> None:
        if self._looking is not None:
            self._looking.close()
        shutil.rmtree(self.folder, ignore_errors=True)
