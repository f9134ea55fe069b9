"""Whoever dies at a named place of the platform has done all of it or nothing, and whoever does it
again ends where nobody had died: votes, claims, jobs, leases, rounds, imports and promotions.

The places are read from the code: one that has no case here fails.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from align import failpoints
from plumbline.collect.models import Ballot
from plumbline.loop.models import Round
from tests.chaos.acts import ACTS
from tests.chaos.before import Before, Made
from tests.chaos.state import changes, state
from tests.gateway.test_client import database_url
from tests.loop import conftest as loop_conftest

experiment_of, prompt_set = loop_conftest.experiment_of, loop_conftest.prompt_set
rater = loop_conftest.rater
pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
# By place: what passes it, and whether what was done counts although its process ends there.
POINTS = {
    "vote.storing": ("vote", False),
    "vote.stored": ("vote", False),
    "vote.committed": ("vote", True),
    "seat.taken": ("claim", False),
    "job.folder_written": ("submit", False),
    "job.row_written": ("submit", False),
    "job.committed": ("submit", True),
    "job.claimed": ("take", False),
    "job.ended": ("finish", False),
    "job.end_committed": ("finish", True),
    "lease.lost": ("sweep", False),
    "lease.released": ("release", False),
    "freeze.listed": ("freeze", False),
    "freeze.committed": ("freeze", True),
    "examples.written": ("pairs", False),
    "round.moved": ("move", False),
    "import.chunk_written": ("bring", False),
    "import.published": ("bring", False),
    "promotion.loaded": ("promote", False),
    "promotion.probed": ("promote", False),
    "promotion.flipping": ("promote", False),
    "promotion.flipped": ("promote", True),
    "promotion.drained": ("retire", True),
}
# On an engine; tests/policies/test_crashes.py kills there.
ENGINE = {name for name, (act, _) in POINTS.items() if act in ("promote", "retire")}
KILLED = {"vote.stored", "vote.committed", "job.row_written", "job.committed", "freeze.listed"}


def places() -> set[str]:
    """What the platform's sources pass, by name."""
    found = set()
    for path in (ROOT / "platform").rglob("*.py"):
        if path.parent.name == "operations":  # tests/operations strikes there
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}: a place is named in so many words"
                found.add(str(name.value))
    return found


def test_every_place_has_a_case_here() -> None:
    assert set(POINTS) == places()


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "orders"
    folder.mkdir()
    monkeypatch.setattr(failpoints, "FOLDER", str(folder))
    return folder


@pytest.fixture
def make(request: Any, project: Any, tmp_path: Path, settings: Any) -> Callable[[str], Made]:
    """`make(act)`: a state in which there is this to do."""
    settings.RUNS_DIR = tmp_path / "runs"
    before = Before(request.getfixturevalue, tmp_path, settings)
    return lambda act: getattr(before, act)()


def all_or_nothing(name: str, make: Any, strike: Callable[[str, tuple[str, ...]], None]) -> None:
    act, kept = POINTS[name]
    given, done = make(act)
    before = state()
    assert not done()
    strike(act, given)
    if kept:
        assert done()
    else:
        # A run directory without a row is nobody's.
        assert [one for one in changes(before, state()) if not one.startswith("runs: come")] == []
    if not (kept and act == "submit"):  # each submit is a job of its own
        ACTS[act](*given)
        assert done()
    after = state()
    if act not in ("submit", "promote"):
        ACTS[act](*given)
        assert changes(after, state()) == []


@pytest.mark.parametrize("name", sorted(POINTS))
def test_an_error_at_any_place_leaves_all_or_nothing(name: str, make: Any, orders: Path) -> None:
    def strike(act: str, given: tuple[str, ...]) -> None:
        (orders / name).write_text("error")
        with pytest.raises(failpoints.Struck):
            ACTS[act](*given)
        assert [path.name for path in orders.iterdir()] == [f"{name}.{os.getpid()}"]

    all_or_nothing(name, make, strike)


CHILD = """
import sys, django
django.setup()
from django.conf import settings
settings.RUNS_DIR = sys.argv[1]
from tests.chaos.acts import ACTS
ACTS[sys.argv[2]](*sys.argv[3:])
"""


def _kill(name: str, orders: Path, runs: Path) -> Callable[[str, tuple[str, ...]], None]:
    def strike(act: str, given: tuple[str, ...]) -> None:
        (orders / name).write_text("kill")
        environment = {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "plumbline.settings",
            "PLUMBLINE_FAILPOINTS": str(orders),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "platform", ROOT / "workers", ROOT))),
        }
        connection.close()
        command = [sys.executable, "-c", CHILD, str(runs), act, *given]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (orders / name).exists()

    return strike


@pytest.mark.parametrize("name", sorted(KILLED))
def test_a_process_killed_there_leaves_all_or_nothing(
    name: str, make: Any, orders: Path, tmp_path: Path
) -> None:
    all_or_nothing(name, make, _kill(name, orders, tmp_path / "runs"))


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(set(POINTS) - KILLED - ENGINE))
def test_a_process_killed_at_any_other_place_leaves_all_or_nothing(
    name: str, make: Any, orders: Path, tmp_path: Path
) -> None:
    all_or_nothing(name, make, _kill(name, orders, tmp_path / "runs"))


def test_a_late_vote_is_not_on_a_list_that_was_frozen(make: Any, orders: Path, carol: Any) -> None:
    """The loop dies with the list committed; a vote comes; the next look leaves the list alone."""
    (given, _) = make("freeze")
    (orders / "freeze.committed").write_text("error")
    with pytest.raises(failpoints.Struck):
        ACTS["freeze"](*given)
    row = Round.objects.get()
    digest, listed = row.ballots_sha256, set(row.ballots.values_list("pk", flat=True))
    assert row.campaign is not None
    comparison, now = row.campaign.comparisons.first(), timezone.now()
    Ballot.objects.create(
        comparison=comparison, annotator=carol, shown=[0, 1], outcome="ranked", seat=7,
        ranking=[[0], [1]], claimed_at=now, expires_at=now + timedelta(hours=1),
        cast_at=now, settings_version=row.campaign.settings_version,
    )  # fmt: skip
    ACTS["freeze"](*given)
    row.refresh_from_db()
    assert row.ballots_sha256 == digest
    assert set(row.ballots.values_list("pk", flat=True)) == listed
