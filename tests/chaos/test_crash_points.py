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
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from align import failpoints
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.collect.queue import gate
from plumbline.fleet.models import Job
from plumbline.loop import labelling, rounds
from plumbline.loop.models import Round, RoundStage, Stage
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Policy
from plumbline.transfer.models import Import
from tests.chaos.acts import ACTS
from tests.chaos.state import changes, state
from tests.comparisons import open_campaign
from tests.gateway.test_client import database_url
from tests.loop import conftest as loop_conftest
from tests.loop.test_advance import at_label
from tests.transfer.test_bringing import rows

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

Made = tuple[tuple[str, ...], Callable[[], bool]]  # the act's arguments, and whether it was done


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
def make(request: Any, project: Any, bob: Any, client_for: Any, tmp_path: Path, settings: Any):
    """`make(act)`: a state in which there is this to do."""
    settings.RUNS_DIR = tmp_path / "runs"

    def vote() -> Made:
        ballot = queue.claim_next(bob, open_campaign(project, comparisons=1))
        assert ballot is not None
        queue.save_draft(ballot, {"comment": "half a word"})
        session = client_for(bob).cookies["sessionid"].value
        cast = Ballot.objects.filter(outcome="ranked", idempotency_key__isnull=False)
        return (session, str(ballot.pk), str(uuid.uuid4())), lambda: cast.count() == 1

    def claim() -> Made:
        campaign = open_campaign(project, comparisons=2)
        held = Ballot.objects.filter(annotator=bob, seat=0)
        queue.claim_next(request.getfixturevalue("carol"), campaign)  # who comes first prepares it
        gate.join(bob, campaign)
        return (str(bob.pk), str(campaign.pk)), lambda: held.count() == 1

    def submit() -> Made:
        return (str(project.pk),), lambda: Job.objects.filter(state="queued").count() == 1

    def job(running: bool, lost: bool = False) -> Job:
        ACTS["submit"](str(project.pk))
        if running:
            ACTS["take"]()
        if lost:
            Job.objects.update(lease_until=F("created_at"))
        return Job.objects.get()

    def take() -> Made:
        job(running=False)
        return (), lambda: Job.objects.filter(state="running", epoch=1, attempt=1).count() == 1

    def finish() -> Made:
        done = Job.objects.filter(state="succeeded", result={"said": 1}, epoch=1)
        return (str(job(running=True).pk),), lambda: done.count() == 1

    def sweep() -> Made:
        job(running=True, lost=True)
        return (), lambda: Job.objects.filter(state="queued", attempt=1, epoch=1).count() == 1

    def release() -> Made:
        back = Job.objects.filter(state="queued", attempt=0, epoch=1)
        return (str(job(running=True).pk),), lambda: back.count() == 1

    def round_at(stage: Stage) -> Round:
        experiment = request.getfixturevalue("experiment_of")()
        row = at_label(rounds.begin(experiment))
        loop_conftest.vote_on_everything(request.getfixturevalue("rater"), row.campaign)
        rounds.close_labels(row)
        if stage == Stage.PAIRS:
            labelling.label(row)
        return row

    def freeze() -> Made:
        row = round_at(Stage.LABEL)
        frozen = Round.objects.exclude(ballots_sha256="").filter(ballots__isnull=False)
        return (str(row.pk),), lambda: frozen.distinct().count() == 1

    def pairs() -> Made:
        row = round_at(Stage.PAIRS)
        whole = row.examples.filter(answers__role="chosen")
        return (str(row.pk),), lambda: whole.count() == row.examples.count() > 0

    def move() -> Made:
        row = round_at(Stage.LABEL)
        begun = RoundStage.objects.filter(round=row, stage=Stage.REWARD)
        return (
            str(row.pk),
        ), lambda: Round.objects.filter(stage=Stage.REWARD).count() == begun.count() == 1

    def bring() -> Made:
        path = tmp_path / "given.jsonl"
        path.write_bytes(rows(700))  # two chunks
        return (
            str(path),
        ), lambda: Import.objects.filter(rows=700).count() == 1 and Ballot.objects.count() == 700

    def policy() -> Policy:
        engine = request.getfixturevalue("engine")
        settings.ENGINE_URL, settings.ENGINE = engine.url, "transformers"
        base = serving.base_policy(project)
        folder = request.getfixturevalue("commit_weights")(5, "lora", 0.05)
        return Policy.objects.create(
            project=project, name=f"struck-{uuid.uuid4().hex[:6]}", weights="lora", parent=base,
            base_model=base.base_model, path=str(folder.path), sha256=folder.sha256,
        )  # fmt: skip

    def promote() -> Made:
        row = policy()
        ACTS["promote"](str(row.parent_id))
        moved = Deployment.objects.filter(policy=row, previous=row.parent)
        return (str(row.pk),), lambda: moved.count() == Flip.objects.filter(after=row).count() == 1

    def retire() -> Made:
        row = policy()
        serving.ensure_loaded(row)
        Policy.objects.filter(pk=row.pk).update(state=Policy.State.REJECTED)
        return (), lambda: row.name not in serving.served()

    here = locals()
    return lambda act: here[act]()


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
