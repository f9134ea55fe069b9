"""Fixtures every test may use: some people and a stranger, a project, the real data.

With STRICT=1 a skipped test is a failure, so a machine that lacks something cannot pass by looking
away.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.environment import STRICT

# Real engines, in their own processes; tenants that tests of security attack.
pytest_plugins = ("tests.engines", "tests.security.tenants")

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ROOT / "tests" / "browser"
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Nightly tests run only when asked for by `-m nightly`, those of one database only on it, and
    those of none are not run on PostgreSQL again; but browsers are tested there alone."""
    marked = set()
    if "nightly" not in (config.getoption("-m") or ""):
        marked.add("nightly")
    on_postgres = config.getoption("db") == "postgres"
    marked.add("sqlite" if on_postgres else "postgres")

    def left(item: pytest.Item) -> bool:
        again = on_postgres and BROWSERS not in item.path.parents and not _needs_database(item)
        return again or any(map(item.get_closest_marker, marked))

    left_out = [item for item in items if left(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _needs_database(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    asks = bool(fixtures & {"db", "transactional_db", "live_server"})
    return asks or any(map(item.get_closest_marker, ("django_db", "postgres")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Under STRICT=1 what a machine lacks is a failure with the same words."""
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"STRICT=1 allows no skips: {report.longrepr[2]}"
    return report


@pytest.fixture(autouse=True)
def _small_numbers() -> Iterator[None]:
    """Training in this process has torch round the smallest floats to zero; later tests, and
    hypothesis before them, want all of them."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session", autouse=True)
def _flushes_audit():
    """Tests that commit are cleaned up by emptying every table, which triggers refuse the audit's:
    they are off in that moment."""
    from django.db import connection

    from plumbline.audit import guards

    kind, vendor = type(connection.ops), connection.vendor
    plain = kind.sql_flush

    def flush(*args, **options):
        return [*guards.remove(vendor), *plain(*args, **options), *guards.install(vendor)]

    kind.sql_flush = flush
    yield
    kind.sql_flush = plain


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
        client.force_login(user, backend="plumbline.accounts.backends.ByPassword")
        return client

    return signed_in
