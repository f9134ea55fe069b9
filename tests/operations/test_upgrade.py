"""A release is upgraded while a round goes on, and the release before works on the new schema.

Everything runs in processes of its own: the old code from git, today's from this tree, on one home
and one database. `BEFORE` is the release before; move it on with each release.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "751c5e9"
PARTS = ("platform", "workers", "templates", "manage.py")

BEGIN = """
import hashlib, uuid
from django.utils import timezone
from plumbline.accounts.models import Membership, Project, User
from plumbline.collect.models import (
    Campaign, Candidate, Comparison, Completion, Prompt, PromptSet)
from plumbline.loop.models import Experiment, Round, RoundStage
from plumbline.policies import serving
from plumbline.policies.models import Policy
project = Project.objects.create(name="Alpha", slug="alpha")
for name in ("ann", "ben"):
    Membership.objects.create(
        project=project, user=User.objects.create_user(username=name), role="annotator")
prompts = PromptSet.objects.create(project=project, name="P")
base = serving.base_policy(project)
experiment = Experiment.objects.create(
    project=project, name="E", algorithm="dpo", start=base, prompt_set=prompts, rounds_wanted=1,
    reward_folds=0)
campaign = Campaign.objects.create(project=project, name="C", overlap=2)
round = Round.objects.create(
    experiment=experiment, number=1, policy_in=base, stage="label", campaign=campaign)
RoundStage.objects.create(round=round, stage="label", started_at=timezone.now())
for n in range(8):
    text = f"Question {n}?"
    prompt = Prompt.objects.create(
        set=prompts, messages=[{"role": "user", "content": text}],
        digest=hashlib.sha256(text.encode()).hexdigest())
    round.prompts.add(prompt)
    comparison = Comparison.objects.create(campaign=campaign, prompt=prompt)
    for slot in range(2):
        answer = Completion.objects.create(
            prompt=prompt, policy=base, text=f"Answer {n}.{slot}", finish_reason="stop")
        Candidate.objects.create(comparison=comparison, completion=answer, slot=slot)
"""

WORK = """
import sys, uuid
from align.jobs import ScoreJob
from plumbline.accounts.models import Project, User
from plumbline.collect import queue
from plumbline.collect.models import Campaign
from plumbline.fleet import claims, dispatch
def vote(name, most):
    person, campaign = User.objects.get(username=name), Campaign.objects.get(name="C")
    said = []
    while len(said) < most and (ballot := queue.claim_next(person, campaign)) is not None:
        verdict = queue.Verdict("ranked", ranking=[[1], [0]])
        said.append(str(queue.cast(ballot, verdict, uuid.uuid4()).pk))
    return said
def job():
    row = dispatch.submit(Project.objects.get(), ScoreJob(), "Score", {"items.jsonl": []})
    taken = claims.claim("gpu", "a worker")
    assert taken is not None and taken.pk == row.pk, taken
    assert claims.heartbeat(taken, {"done": 1, "total": 2, "unit": "rows"})
    assert claims.succeed(taken, {"scored": 0})
    return str(row.pk)
"""


@dataclass
class Upgrade:
    old: Path
    environment: dict[str, str]

    def python(self, program: str, *, old: bool) -> Any:
        """Run a program by the old code or today's; what its last line says, as JSON."""
        root = self.old if old else ROOT
        path = os.pathsep.join((str(root / "platform"), str(root / "workers")))
        environment = self.environment | {"PYTHONPATH": path}
        start = "import django; django.setup(); import json, plumbline, sys\n"
        start += f"assert plumbline.__path__[0].startswith({str(root)!r}), plumbline.__path__\n"
        done = subprocess.run(
            [sys.executable, "-c", start + program],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        return json.loads(lines[-1]) if lines else None

    def migrate(self, *, old: bool) -> None:
        call = 'from django.core.management import call_command as c; c("migrate", verbosity=0)'
        self.python(call, old=old)


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    archive = folder / "code.tar"
    taken = subprocess.run(
        ["git", "archive", f"--output={archive}", BEFORE, *PARTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if taken.returncode:
        pytest.skip(f"git has no {BEFORE} here: {taken.stderr.strip()}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder


@pytest.fixture
def upgrade(old_code: Path, tmp_path: Path) -> Iterator[Upgrade]:
    home, name = tmp_path / "home", f"upgrade_{uuid.uuid4().hex[:8]}"
    home.mkdir()
    url = f"sqlite:///{home / 'db.sqlite3'}"
    postgres = os.environ.get("DATABASE_URL", "").startswith("postgres")
    if postgres:
        _postgres(f'CREATE DATABASE "{name}"')
        url = f"postgresql://postgres@/{name}"
    yield Upgrade(
        old_code,
        os.environ
        | {
            "PLUMBLINE_HOME": str(home),
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "plumbline.settings",
            "BASE_MODEL": str(ROOT / "workers/align/demo/base"),
            "ENGINE_URL": "http://127.0.0.1:9",
            "LOG_LEVEL": "ERROR",
        },
    )
    if postgres:
        _postgres(f'DROP DATABASE "{name}" WITH (FORCE)')


def _postgres(command: str) -> None:
    import psycopg

    with psycopg.connect("postgresql://postgres@/postgres", autocommit=True) as plain:
        plain.execute(command)


@pytest.mark.sqlite
def test_a_round_goes_on_through_an_upgrade_and_old_processes_still_work(upgrade):
    upgrade.migrate(old=True)
    say = "print(json.dumps([vote('ann', {n}), job()]))"
    before, _ = upgrade.python(BEGIN + WORK + say.format(n=5), old=True)
    assert len(before) == 5

    upgrade.migrate(old=False)
    # Processes of the release before are still there, on the new schema.
    meanwhile, _ = upgrade.python(WORK + say.format(n=1), old=True)
    # Today's go on where they are.
    after, _ = upgrade.python(WORK + say.format(n=1), old=False)
    # Both take turns at the rest, and today's loop takes the round on.
    late = upgrade.python(WORK + "print(json.dumps(vote('ben', 4)))", old=True)
    rest = upgrade.python(WORK + "print(json.dumps(vote('ben', 4) + vote('ann', 9)))", old=False)
    told = upgrade.python(
        "from plumbline.loop import advance\n"
        "from plumbline.loop.models import Round\n"
        "from plumbline.operations import verifying\n"
        "from plumbline.collect.models import Ballot\n"
        "advance.tick()\n"
        "round = Round.objects.get()\n"
        "print(json.dumps({'stage': round.stage, 'error': round.error,\n"
        "  'frozen': [str(one) for one in round.ballots.values_list('pk', flat=True)],\n"
        "  'found': [one.sentence for one in verifying.verify(engines=False).findings]}))",
        old=False,
    )
    assert told["stage"] == "reward", told["error"]
    assert sorted(told["frozen"]) == sorted([*before, *meanwhile, *after, *late, *rest])
    assert len(told["frozen"]) == 16
    assert told["found"] == []
    # And the old loop does not fall over what today's has written.
    look = "from plumbline.loop import advance; advance.tick()\nfrom plumbline.loop.models import "
    look += "Round\nprint(json.dumps([Round.objects.get().stage, Round.objects.get().error]))"
    assert upgrade.python(look, old=True) == ["reward", ""]


@pytest.mark.postgres
def test_no_migration_since_then_breaks_the_release_before(db, old_code, capsys):
    """By the SQL that PostgreSQL would run: nothing dropped, renamed or required that the old code
    does not know of. New tables are nobody's business but the new code's."""
    from django_migration_linter import MigrationLinter

    loader = MigrationLoader(connection)
    fresh = [
        migration
        for (app, name), migration in sorted(loader.disk_migrations.items())
        if migration.__module__.startswith("plumbline.")
        and not (old_code / "platform/plumbline" / app / "migrations" / f"{name}.py").exists()
    ]
    assert fresh, "BEFORE is this release"
    linter = MigrationLinter(
        analyser_string="postgresql", no_cache=True, ignore_initial_migrations=True
    )
    for migration in fresh:
        linter.lint_migration(migration)
    assert linter.nb_total == len(fresh)
    assert not linter.has_errors, capsys.readouterr().out
