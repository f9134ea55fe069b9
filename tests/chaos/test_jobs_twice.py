"""A job of any kind that ends twice, or that an attempt of the past still speaks for, has one
result and one effect: whatever comes late changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from align import jobs
from plumbline.accounts.models import Project
from plumbline.collect.models import Completion, Prompt
from plumbline.fleet import claims, dispatch
from plumbline.fleet.models import Job
from plumbline.fleet.reports import Reports
from plumbline.judges import asking, watch
from plumbline.judges.models import Asking, Score, Verdict
from plumbline.loop import inspection, rows
from plumbline.loop.models import Inspection
from plumbline.policies import serving
from plumbline.policies.models import RewardModel
from tests.chaos.state import changes, state
from tests.comparisons import open_campaign
from tests.judges import conftest as judges_conftest
from tests.judges.test_asking import pairs_of
from tests.loop.conftest import run_jobs

endpoint, stub = judges_conftest.endpoint, judges_conftest.stub
version = judges_conftest.version
pytestmark = pytest.mark.django_db

WRITES: dict[str, Callable[[Job], bool]] = {
    "heartbeat": lambda job: claims.heartbeat(job, {"done": 99, "total": 99, "unit": "steps"}),
    "move_events": lambda job: claims.move_events(job, 4096),
    "succeed": lambda job: claims.succeed(job, {"said": "by somebody late"}),
    "fail": lambda job: claims.fail(job, "It broke.", permanent=False),
    "fail for good": lambda job: claims.fail(job, "It broke.", permanent=True),
    "cancelled": claims.cancelled,
    "release": claims.release,
    "copy": lambda job: Reports(job).copy(),
}


@pytest.fixture(autouse=True)
def _own_runs(settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "runs"


def queued(project: Project, kind: str) -> Job:
    """A row is all that the fleet itself knows of a job; what it asks for is its child's affair."""
    row = Job.objects.create(
        project=project, kind=kind, queue=jobs.QUEUES[kind], title=kind, spec={"kind": kind}
    )
    row.folder.mkdir(parents=True)
    line = '{"type": "log", "message": "spoken late", "elapsed": 1}\n'
    (row.folder / jobs.EVENTS).write_text(line)
    return row


def claimed(queue: str, worker: str) -> Job:
    Job.objects.update(not_before=None)
    job = claims.claim(queue, worker)
    assert job is not None
    return job


@pytest.mark.parametrize("kind", sorted(jobs.MODULES))
def test_an_attempt_of_the_past_changes_nothing(project: Project, kind: str) -> None:
    zombie = _lost(queued(project, kind))
    heir = claimed(zombie.queue, "heir")
    assert (heir.pk, heir.epoch) == (zombie.pk, 2)
    _all_in_vain(zombie)
    assert claims.succeed(heir, {"said": "by the heir"})
    _all_in_vain(zombie)


@pytest.mark.parametrize("kind", sorted(jobs.MODULES))
def test_a_job_that_is_over_stays_as_it_ended(project: Project, kind: str) -> None:
    for end in ("succeed", "fail for good", "cancelled"):
        queued(project, kind)
        job = claimed(jobs.QUEUES[kind], "worker")
        assert WRITES[end](job)
        _all_in_vain(job)
        before = state()
        dispatch.cancel(job)
        claims.sweep()
        assert (end, changes(before, state())) == (end, [])


def test_a_job_handed_back_belongs_to_nobody(project: Project) -> None:
    queued(project, "sample")
    job = claimed("cpu", "leaving")
    assert claims.release(job)
    _all_in_vain(job)


def _lost(job: Job) -> Job:
    """The claim of a worker that slept past its lease."""
    zombie = claimed(job.queue, "zombie")
    Job.objects.filter(pk=job.pk).update(lease_until=F("started_at"))
    assert claims.sweep() == 1
    return zombie


def _all_in_vain(late: Job) -> None:
    before = state()
    for name, write in WRITES.items():
        assert not write(late), name
        assert (name, changes(before, state())) == (name, [])


@pytest.fixture
def sampled(project: Project) -> tuple[Job, Any, set[int]]:
    """A sampling job that has ended with two answers to a prompt."""
    campaign = open_campaign(project, comparisons=1)
    prompt = Prompt.objects.get()
    spec = jobs.SampleJob(engine_url="-", model="base", n=2)
    given = {jobs.PROMPTS: rows.prompt_rows([prompt])}
    job = dispatch.submit(project, spec, "two answers", given)
    _write_answers(job, prompt.pk, "first time")
    assert campaign.comparisons.count() == 1
    return job, serving.base_policy(project), {prompt.pk}


def _write_answers(job: Job, prompt: int, text: str) -> None:
    said = [
        {"prompt": str(prompt), "draw": n, "text": f"{text} {n}", "token_ids": [n]}
        for n in range(2)
    ]
    path = job.folder / jobs.COMPLETIONS
    path.unlink(missing_ok=True)
    jobs.write_rows(path, [{**one, "finish_reason": "stop"} for one in said])


def test_answers_that_come_again_are_the_answers_there_were(sampled: Any) -> None:
    job, policy, prompts = sampled
    rows.import_completions(job, policy, prompts)
    assert Completion.objects.filter(batch=job.pk, text__startswith="first time").count() == 2
    before = state()
    _write_answers(job, *prompts, "second time")  # a zombie's child wrote over the file
    rows.import_completions(job, policy, prompts)
    assert changes(before, state()) == []


def test_scores_that_come_again_are_the_scores_there_were(project: Project, sampled: Any) -> None:
    job, policy, prompts = sampled
    rows.import_completions(job, policy, prompts)
    model = RewardModel.objects.create(
        project=project,
        name="model",
        objective="bradley_terry",
        path="-",
        sha256="0",
        ballots_used=1,
    )
    answers = Completion.objects.filter(batch=job.pk)

    def score(value: float) -> None:
        path = job.folder / jobs.SCORES
        path.unlink(missing_ok=True)
        said = {"reward": value, "members": [], "spread": None}
        jobs.write_rows(path, [{"id": str(one.pk), **said} for one in answers])
        rows.import_scores(job, model)

    score(1.0)
    before = state()
    score(2.0)
    assert changes(before, state()) == []
    assert set(Score.objects.values_list("value", flat=True)) == {1.0}


def test_verdicts_are_gathered_once_whatever_the_file_says_later(
    version: Any, project: Any
) -> None:
    campaign = open_campaign(project, comparisons=3)
    job = asking.ask(version, pairs_of(campaign), "Three pairs", campaign=campaign)
    assert job is not None
    run_jobs()
    row = Asking.objects.get()
    stale = Asking.objects.get()
    watch.finish(row)
    assert Verdict.objects.count() == 3
    before = state()
    for path in row.job.folder.glob("*.jsonl"):
        path.unlink()
    watch.finish(stale)
    assert watch.settle() == 0
    assert changes(before, state()) == []


def test_an_inspection_is_taken_in_once(project: Project, sampled: Any) -> None:
    job, policy, prompts = sampled
    rows.import_completions(job, policy, prompts)
    answers = list(Completion.objects.filter(batch=job.pk))
    facts = {"reward": 1.0, "members": [], "spread": None, "pieces": ["a"]}
    logps = {str(policy.pk): [-1.0], inspection.REFERENCE: [-2.0]}
    found = [{"id": str(one.pk), **facts, "token_logps": logps} for one in answers]
    jobs.write_rows(job.folder / jobs.SCORES, found)
    Job.objects.filter(pk=job.pk).update(state=Job.State.SUCCEEDED, result={})
    asked = Inspection.objects.create(project=project, job=job, reference=policy, answers=2)
    assert inspection.collect() == 1
    before = state()
    assert inspection.collect() == 0
    Inspection.objects.filter(pk=asked.pk).update(taken_at=None)  # died before it was written down
    assert inspection.collect() == 1
    Inspection.objects.filter(pk=asked.pk).update(taken_at=Inspection.objects.get().taken_at)
    come = [line for line in changes(before, state()) if "inspection" not in line]
    assert come == []


def test_a_run_directory_is_all_there_or_not_at_all(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submit that dies in between leaves nothing that anybody would take for a job."""

    def dies(*args: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(jobs, "write_json", dies)
    spec = jobs.SampleJob(engine_url="-", model=uuid.uuid4().hex, n=1)
    before = state()
    with pytest.raises(OSError, match="gone"):
        dispatch.submit(project, spec, "never", {})
    assert changes(before, state()) == []
