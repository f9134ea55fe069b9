"""`manage.py retain` says what may go, and removes only that."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from plumbline.fleet.models import Event, Job, Metric
from plumbline.gateway.models import Exchange
from plumbline.loop.models import Round, RoundJob
from plumbline.operations import retention
from plumbline.policies.models import Policy, RewardModel
from tests.operations.conftest import age

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(homes, project):
    """`job(days_ago, state="succeeded")`: one that is over, with a folder, an event, a metric."""

    def make(days: int, state: str = "succeeded") -> Job:
        ended = timezone.now() - timedelta(days=days)
        made = Job.objects.create(
            project=project,
            kind="train",
            queue="gpu",
            title="T",
            spec={},
            state=state,
            finished_at=ended,
        )
        (made.folder / "checkpoints").mkdir(parents=True)
        (made.folder / "checkpoints" / "state").write_bytes(b"x" * 100)
        (made.folder / "job.json").write_text("{}")
        Event.objects.create(job=made, epoch=1, message="done")
        Metric.objects.create(job=made, step=1, name="loss", value=1.0)
        return made

    return make


@pytest.fixture
def rounds(project, job):
    """Five finished rounds of an experiment, each with an old job."""
    from plumbline.collect.models import PromptSet
    from plumbline.loop.models import Experiment
    from plumbline.policies import serving

    base = serving.base_policy(project)
    prompts = PromptSet.objects.create(project=project, name="P")
    experiment = Experiment.objects.create(
        project=project, name="E", algorithm="dpo", start=base, prompt_set=prompts
    )
    made: list[Any] = []
    for number in range(1, 6):
        done = Round.objects.create(
            experiment=experiment, number=number, policy_in=base, stage="done"
        )
        RoundJob.objects.create(round=done, purpose="train", job=job(200))
        made.append(done)
    return made


def test_nothing_goes_unless_it_is_asked_for(job):
    old = job(200)
    out = io.StringIO()
    call_command("retain", stdout=out)
    assert "1 run folders that nothing names" in out.getvalue()
    assert "Nothing was removed" in out.getvalue()
    assert old.folder.is_dir()
    assert Event.objects.count() == 1


def test_what_is_old_and_named_by_nothing_goes(job, homes):
    old, young, failed = job(200), job(10), job(200, "failed")
    stray = age(homes / "runs" / _empty(homes / "runs" / str(uuid.uuid4())))
    out = io.StringIO()
    call_command("retain", "--delete", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert set(told["folders"]) == {str(old.folder), str(failed.folder)}
    assert told["strays"] == [str(stray)]
    assert told["rows"]["events"] == 2
    assert told["bytes"] >= 2 * 102
    assert {path.name for path in (homes / "runs").iterdir()} == {str(young.pk)}
    assert Event.objects.get().job == Metric.objects.get().job == young
    assert Job.objects.count() == 3  # the rows stay: they say what ran
    again = retention.plan(retention.Rule())
    assert (again.bytes, sum(again.rows.values())) == (0, 0)


def _empty(path: Any) -> str:
    path.mkdir()
    return str(path.name)


def test_the_last_rounds_keep_their_folders(rounds):
    call_command("retain", "--delete", "--rounds", "2")
    left = [one.jobs.get().job.folder for one in rounds]
    assert [folder.is_dir() for folder in left] == [False, False, False, True, True]
    assert not (left[-1] / "checkpoints").exists()  # nobody goes on from them
    assert (left[-1] / "job.json").is_file()


def test_weights_of_a_policy_stay_however_old(job, project):
    old = job(500)
    (old.folder / "weights").mkdir()
    Policy.objects.create(
        project=project, name="p", weights="lora", base_model="/b", path=str(old.folder / "weights")
    )
    call_command("retain", "--delete", "--days", "1")
    assert (old.folder / "weights").is_dir()
    assert not (old.folder / "checkpoints").exists()
    assert Metric.objects.filter(job=old).exists()  # its curves say how it was made


def test_rounds_that_may_go_on_keep_everything(rounds):
    Round.objects.filter(pk=rounds[0].pk).update(stage="failed")
    Round.objects.filter(pk=rounds[1].pk).update(stage="train")
    call_command("retain", "--delete", "--rounds", "1")
    kept = [one.jobs.get().job for one in rounds[:2]]
    assert (kept[0].folder / "checkpoints" / "state").is_file()
    assert kept[1].folder.is_dir()
    assert Event.objects.filter(job=kept[0]).exists()


def test_verify_finds_nothing_after_it(house, job):
    from plumbline.operations import verifying

    job(200)
    Job.objects.filter(pk=house["job"].pk).update(created_at=timezone.now())
    call_command("retain", "--delete", "--days", "1")
    assert verifying.verify(engines=False).findings == []


def test_what_is_kept_by_default_goes_where_the_setting_says_so(job, homes, project, settings):
    old = job(40)
    (old.folder / "weights").mkdir()
    policy = Policy.objects.create(
        project=project, name="p", weights="lora", base_model="/b", path=str(old.folder / "weights")
    )
    for name in ("stderr.log", "events.jsonl"):
        (old.folder / name).write_text("said")
    sha = "a" * 64
    RewardModel.objects.create(
        project=project, name="r", objective="o", path="/x", sha256=sha, ballots_used=1
    )
    kept = [homes / "scores" / f"{sha}.jsonl", homes / "rubrics" / "r" / "replies.jsonl"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        age(path, 40 * 24 * 3600.0)
    for n, days in enumerate((10, 40)):
        made = Exchange.objects.create(
            project=project, policy=policy, completion_id=f"c{n}", asked_for="x", status=200,
            latency_ms=1,
        )  # fmt: skip
        Exchange.objects.filter(pk=made.pk).update(created_at=timezone.now() - timedelta(days=days))
    call_command("retain", "--delete")
    assert all(path.exists() for path in kept)
    assert (old.folder / "stderr.log").exists()
    assert Exchange.objects.count() == 2

    settings.RETAIN = "logs=30, scores=30,rubrics=30,exchanges=30"
    out = io.StringIO()
    call_command("retain", "--delete", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert set(told["logs"]) == {str(old.folder / name) for name in ("stderr.log", "events.jsonl")}
    assert set(told["caches"]) == {str(path) for path in kept}
    assert told["rows"]["served requests"] == 1
    assert not any(path.exists() for path in kept)
    left = {path.name for path in old.folder.iterdir()}
    assert left == {"job.json", "weights", "checkpoints"}, "of runs that ended 90 days ago"
    assert Exchange.objects.get().completion_id == "c0"


def test_what_is_young_stays_whatever_the_setting_says(job, homes, settings):
    settings.RETAIN = "logs=30,scores=30,rubrics=30"
    young, failed = job(10), job(40, "failed")
    (young.folder / "stderr.log").write_text("said")
    (homes / "rubrics" / "replies.jsonl").write_text("{}")
    call_command("retain", "--delete")
    assert (young.folder / "stderr.log").is_file()
    assert (homes / "rubrics" / "replies.jsonl").is_file()
    assert failed.folder.is_dir(), "runs go after 90 days"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("votes=30", "knows no 'votes'"),
        ("logs", "after = comes a number"),
        ("logs=-1", "after = comes a number"),
        ("scores=a week", "after = comes a number"),
        ("scores=999999999999", "after = comes a number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_and_nothing_goes(said, sentence, job, settings):
    settings.RETAIN = said
    old = job(200)
    with pytest.raises(CommandError, match=sentence):
        call_command("retain", "--delete")
    assert old.folder.is_dir()
