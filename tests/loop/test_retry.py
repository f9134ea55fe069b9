"""Trying a round again: what goes on from where, and what was cancelled is taken up too."""

from __future__ import annotations

import pytest

from align import jobs
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.loop import resuming, rounds
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
NOW = "/p/alpha/lab/experiments/{}/rounds/1/retry/"


@pytest.fixture
def failed(project, settings, tmp_path):
    settings.RUNS_DIR = tmp_path
    return lab.round_at(lab.experiment(project), Stage.FAILED)


def test_training_goes_on_from_its_newest_checkpoint_and_that_is_said(failed, alice, client_for):
    progress = {"done": 14, "total": 40, "unit": "steps"}
    job = lab.train_job(failed, "failed", progress=progress)
    for name in ("step-00000004", "step-00000012", ".step-00000014.tmp"):
        (job.folder / jobs.CHECKPOINTS / name).mkdir(parents=True)
    assert resuming.told(failed) == ["The train job goes on from its checkpoint of step 12 of 40."]
    page = client_for(alice).post(NOW.format(failed.experiment_id), follow=True)
    assert "from its checkpoint of step 12 of 40." in page.content.decode()
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.QUEUED, 0)


def test_answers_that_were_drawn_are_kept_and_what_left_nothing_begins_anew(failed):
    spec = jobs.SampleJob(engine_url="http://engine", model="base", n=4)
    lab.job(failed, "sample:policy", spec, "failed", progress={"done": 9, "total": 16,
            "unit": "prompts"})  # fmt: skip
    lab.train_job(failed, "failed")
    assert resuming.told(failed) == [
        "The sample job keeps the 9 of 16 prompts it had done.",
        "The train job begins anew: it had left no checkpoint.",
    ]


def test_a_round_whose_job_was_cancelled_can_be_taken_up_again(failed):
    job = lab.train_job(failed, "queued")
    dispatch.cancel(job)
    rounds.retry(failed)
    job.refresh_from_db()
    assert (job.state, job.cancel_requested) == (Job.State.QUEUED, False)
    failed.refresh_from_db()
    assert not failed.over
