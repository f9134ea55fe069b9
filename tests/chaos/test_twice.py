"""Everything that may be started again is done twice, with nothing stubbed, and the second time
changes nothing: the Celery task, each stage of a round and of a session, each look of the loop.

What there is to do is read from the code (the task registry, the stages, the loop's command), and
one that has no case here fails, so that nothing new goes without.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as configured
from django.utils import timezone

from plumbline.accounts import guesses
from plumbline.accounts.models import Tally
from plumbline.celery import app
from plumbline.collect.models import Prompt
from plumbline.evolve import advance as evolving
from plumbline.evolve.models import Evolution
from plumbline.fleet import tasks
from plumbline.gateway import guarding
from plumbline.judges import asking, watch
from plumbline.loop import advance, mixtures, rounds
from plumbline.loop.management.commands import runloop
from plumbline.loop.models import OVER, Stage
from plumbline.operations import signs
from plumbline.operations.models import Sign
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Mixture, Policy
from plumbline.transfer import uploads
from plumbline.transfer.models import Upload
from plumbline.transfer.porter import Porter
from tests.chaos.state import changes, state
from tests.comparisons import open_campaign
from tests.evolve import conftest as evolve_conftest
from tests.fleet import house
from tests.gateway import test_guarding as guards
from tests.gateway.test_client import database_url
from tests.judges import conftest as judges_conftest
from tests.judges.test_asking import pairs_of
from tests.loop import conftest as loop_conftest
from tests.loop.conftest import run_jobs, run_round
from tests.transfer.test_bringing import rows

bubble, endpoint = judges_conftest.bubble, judges_conftest.endpoint
stub, version = judges_conftest.stub, judges_conftest.version
evolution_of, policy = evolve_conftest.evolution_of, evolve_conftest.policy
experiment_of, prompt_set = loop_conftest.experiment_of, loop_conftest.prompt_set
rater, fleet, moved = loop_conftest.rater, house.fleet, guards.moved
pytestmark = pytest.mark.django_db

CASES: dict[str, Callable[..., None]] = {}


def case(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """This test does these things twice."""

    def keep(test: Callable[..., None]) -> Callable[..., None]:
        CASES.update(dict.fromkeys(names, test))
        return test

    return keep


def looks_of_the_loop() -> set[str]:
    """What `manage.py runloop` calls at every tick, as its source has it."""
    source = ast.parse(textwrap.dedent(inspect.getsource(runloop.Command.handle)))
    (attempt,) = (node for node in ast.walk(source) if isinstance(node, ast.Try))
    called = {
        ast.unparse(node.func)
        for one in attempt.body
        for node in ast.walk(one)
        if isinstance(node, ast.Call)
    }
    return called - {"other.look"} | set(configured.LOOP_ALSO)


def test_all_there_is_has_a_case_here() -> None:
    tasks = {name for name in app.tasks if not name.startswith("celery.")}
    assert set(CASES) == tasks | looks_of_the_loop()


def test_a_case_would_see_a_second_effect(project: Any) -> None:
    before = state()
    assert changes(before, state()) == []
    project.name = "Other"
    project.save()
    assert len(changes(before, state())) == 2


def again(act: Callable[[], object]) -> None:
    """The second time changes nothing."""
    before = state()
    act()
    assert changes(before, state()) == []


def doubled(stages: dict[Any, Any], done: set[Any]) -> dict[Any, Any]:
    """The same stages, of which each is done twice before the first of the two is believed."""

    def twice(name: Any, stage: Any) -> Any:
        def both(row: Any) -> Any:
            following = stage(row)
            before = state()
            assert stage(type(row).objects.get(pk=row.pk)) == following
            assert (name, changes(before, state())) == (name, [])
            done.add(name)
            return following

        return both

    return {name: twice(name, stage) for name, stage in stages.items()}


@case("plumbline.fleet.work")
def test_a_bell_that_rings_twice(fleet: Any) -> None:
    jobs = [fleet.submit(), fleet.submit()]
    tasks.work("cpu")
    for job in jobs:
        job.refresh_from_db()
        assert (job.state, job.epoch) == ("succeeded", 1)
    again(lambda: tasks.work("cpu"))
    assert [(job.folder / "steps.txt").read_text() for job in jobs] == ["0\n1\n2\n"] * 2


@case("advance.tick")
@pytest.mark.sqlite
def test_every_stage_of_a_round_twice(
    experiment_of: Any, rater: Any, project: Any, engine: Any, settings: Any, monkeypatch: Any
) -> None:
    settings.ENGINE_URL = engine.url
    done: set[Any] = set()
    monkeypatch.setattr(advance, "STAGES", doubled(advance.STAGES, done))
    experiment = experiment_of(pairs_from="reward_model", prompts_per_round=6, heldout_prompts=4)
    serving.promote(project, experiment.start, actor=None, reason="the first", evidence={})
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    assert done == set(Stage.values) - set(OVER)
    advance.tick()
    again(advance.tick)
    assert Deployment.objects.get().flips.count() == 2


@case("plumbline.evolve.advance.Watch")
@pytest.mark.sqlite
def test_every_stage_of_a_session_twice(
    evolution_of: Any, rater: Any, bubble: None, monkeypatch: Any
) -> None:
    done: set[Any] = set()
    monkeypatch.setattr(evolving, "STAGES", doubled(evolving.STAGES, done))
    evolution = evolve_conftest.run(evolution_of(arms=3, generations_wanted=1), rater)
    assert evolution.state == Evolution.State.FINISHED, evolution.ended
    assert done >= set(evolving.STAGES) - {"pool"}  # sampled by the fixture
    again(evolving.Watch().look)


@case("engine.look")
def test_an_engine_that_is_looked_at_twice(moved: Any, engine: Any) -> None:
    engine.unload_all()
    assert moved.after.name not in serving.served()
    runloop.Engine().look()
    held = set(serving.served())
    assert moved.after.name in held
    again(runloop.Engine().look)
    assert set(serving.served()) == held


@case("porter.look")
@pytest.mark.django_db(transaction=True)
def test_an_upload_that_is_taken_up_twice(
    project: Any, alice: Any, settings: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    settings.HOME, settings.UPLOADS_DIR = tmp_path, tmp_path / "uploads"
    monkeypatch.setenv("DATABASE_URL", database_url())
    said = {"set_name": "set", "heldout": 0.0}
    upload = uploads.receive(project, alice, "x.jsonl", [rows(3)], **said)
    for state_wanted in ("checked", "done"):
        begun = [Porter(), Porter()]  # two loops, of which one comes back from the dead
        for porter in begun:
            porter.look()
            assert porter._child is not None
        for porter in begun:
            assert porter._child is not None
            assert porter._child.wait(120) == 0
        upload.refresh_from_db()
        assert upload.state == state_wanted
        again(Porter().look)
        if state_wanted == "checked":
            uploads.bring_in(upload)
    assert (Upload.objects.get().made.rows, Prompt.objects.count()) == (3, 3)


@case("mixtures.advance")
def test_a_mixture_that_is_made_twice(
    project: Any, commit_weights: Any, engine: Any, settings: Any, tmp_path: Any
) -> None:
    settings.ENGINE_URL, settings.ENGINE = engine.url, "transformers"
    settings.RUNS_DIR = tmp_path / "runs"
    base = serving.base_policy(project)
    parts = {}
    for seed in (1, 2):
        folder = commit_weights(seed, "lora", 0.05)
        made = Policy.objects.create(
            project=project, name=f"part-{uuid.uuid4().hex[:6]}", weights="lora", parent=base,
            base_model=base.base_model, path=str(folder.path), sha256=folder.sha256,
        )  # fmt: skip
        parts[made.pk] = 10
    assert mixtures.wanted(project.pk, parts) is None
    again(lambda: mixtures.wanted(project.pk, parts))
    again(mixtures.advance)
    run_jobs()
    mixtures.advance()
    assert Mixture.objects.get().state == Mixture.State.READY
    again(mixtures.advance)
    again(lambda: mixtures.wanted(project.pk, parts))


@case("plumbline.gateway.guarding.Watch")
def test_an_alarm_that_is_looked_at_twice(moved: Any) -> None:
    guards.guard(moved)
    guards.traffic(moved, before=1, now=20)
    guarding.Watch().look()
    assert Deployment.objects.get().policy == moved.before
    again(guarding.Watch().look)


@case("plumbline.accounts.guesses.Watch")
def test_what_has_ended_is_forgotten_twice(db: None) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Tally.objects.create(digest="a", count=3, until=past)
    Tally.objects.create(digest="b", count=3, until=past + timedelta(hours=1))
    guesses.Watch().look()
    assert Tally.objects.get().digest == "b"
    again(guesses.Watch().look)


@case("plumbline.operations.signs.Watch")
def test_the_loop_says_that_it_lives_twice(db: None) -> None:
    signs.Watch().look()
    first = Sign.objects.get()
    signs.Watch().look()
    assert Sign.objects.get().started_at == first.started_at, "one row, renewed"


@case("plumbline.judges.watch.Watch")
def test_verdicts_that_are_gathered_twice(version: Any, project: Any) -> None:
    campaign = open_campaign(project, comparisons=3)
    asking.ask(version, pairs_of(campaign), "Three pairs", campaign=campaign)
    run_jobs()
    watch.Watch().look()
    assert version.verdicts.count() == 3
    again(watch.Watch().look)
