"""`manage.py retain` says what may go, and removes only that."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from plumbline.fleet.models import Event, Job, Metric
from plumbline.loop.models import Round, RoundJob
from plumbline.operations import retention
from plumbline.policies.models import Policy
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
