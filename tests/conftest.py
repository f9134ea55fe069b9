"""Fixtures every test may use: three people and a stranger, a project, real PostgreSQL on request.

`pytest --db postgres` runs the same tests on a PostgreSQL of their own. With STRICT=1 a skipped
test is a failure, so a machine that lacks something cannot pass by looking away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ("tests.engines",)  # real engines, in their own processes

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
STRICT = os.environ.get("STRICT") == "1"

# Tests write under a home of their own, never under the one a running demo uses.
_HOME = tempfile.mkdtemp(prefix="plumbline-tests-")
os.environ["PLUMBLINE_HOME"] = _HOME
os.environ.pop("DATABASE_URL", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--db", choices=("sqlite", "postgres"), default="sqlite")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--db") == "postgres":
        cluster = Postgres(Path(_HOME))
        cluster.start()
        config.add_cleanup(cluster.stop)
        os.environ["DATABASE_URL"] = cluster.url
    config.add_cleanup(lambda: shutil.rmtree(_HOME, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Nightly tests run only when asked for by `-m nightly`."""
    if "nightly" in (config.getoption("-m") or ""):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    if nightly:
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if item not in nightly]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Under STRICT=1 what a machine lacks is a failure with the same words."""
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"STRICT=1 allows no skips: {report.longrepr[2]}"
    return report


class Postgres:
    """A PostgreSQL cluster in a temporary folder, listening on a unix socket only.

    It refuses to run as root, so root runs it as the system's `postgres` user.
    """

    def __init__(self, home: Path) -> None:
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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real preferences kept beside the checkout, for tests that skip where they are missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def project(db):
    from plumbline.accounts.models import Project

    return Project.objects.create(name="Alpha", slug="alpha")


def _member(project, name: str, role: str):
    from plumbline.accounts.models import Membership, User

    user = User.objects.create_user(username=name)
    if project is not None:
        Membership.objects.create(project=project, user=user, role=role)
    return user


@pytest.fixture
def alice(project):
    """A researcher of the project."""
    return _member(project, "alice", "researcher")


@pytest.fixture
def bob(project):
    """An annotator of the project."""
    return _member(project, "bob", "annotator")


@pytest.fixture
def carol(project):
    """Another annotator of the project."""
    return _member(project, "carol", "annotator")


@pytest.fixture
def dana(project):
    """An admin of the project."""
    return _member(project, "dana", "admin")


@pytest.fixture
def charlie(db):
    """A stranger: signed in, and admin of a project of their own."""
    from plumbline.accounts.models import Project

    other = Project.objects.create(name="Beta", slug="beta")
    return _member(other, "charlie", "admin")


@pytest.fixture
def client_for() -> Callable:
    """`client_for(user)`: a browser signed in as that user."""
    from django.test import Client

    def signed_in(user) -> Client:
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return signed_in
