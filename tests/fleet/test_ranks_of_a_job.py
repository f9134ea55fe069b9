"""The fleet runs a job by several processes, and one of them dying is a failed attempt like any."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import psutil
import pytest

pytest.importorskip("torch")

from align import jobs  # noqa: E402
from plumbline.fleet import claims, dispatch, supervise  # noqa: E402
from plumbline.fleet.models import Job  # noqa: E402
from tests.align.conftest import build_base, pairs, train_job  # noqa: E402
from tests.fleet.house import wait_until  # noqa: E402
from tests.fleet.test_claims import due_now  # noqa: E402
from tests.fleet.test_supervise import in_background, never  # noqa: E402

pytestmark = pytest.mark.sqlite


def asked(fleet, folder: Path, rows: int, **settings) -> Job:
    spec = dataclasses.replace(train_job(build_base(folder), **settings), processes=2)
    return dispatch.submit(fleet.project, spec, "two processes", {jobs.EXAMPLES: pairs(rows)})


def rank(job: Job, number: int) -> psutil.Process:
    def trains(one: psutil.Process) -> bool:
        try:
            return one.cmdline()[-2:] == ["align.gpu.train", str(job.folder)] and one.environ().get(
                "RANK"
            ) == str(number)
        except psutil.Error:
            return False

    (found,) = filter(trains, psutil.process_iter())
    return found


def steps(job: Job) -> int:
    path = job.folder / jobs.EVENTS
    return path.read_text().count('"type": "metric"') if path.exists() else 0


@pytest.mark.timeout(900)
def test_a_rank_that_is_killed_fails_the_attempt_and_the_next_one_resumes(
    fleet, tmp_path, settings
) -> None:
    settings.HEARTBEAT_SECONDS = 1
    job = asked(fleet, tmp_path / "base", 40, epochs=12, batch_size=2, checkpoint_every=5)
    watch = in_background(claims.claim("gpu", "w"))
    wait_until(lambda: steps(job) > 6, seconds=300)
    victim = rank(job, 1)
    other = rank(job, 0)
    victim.kill()
    watch.join(timeout=120)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("queued", 1)
    assert job.error.splitlines()[-1] == (
        f"Rank 1 of 2 (process {victim.pid}) was ended by SIGKILL."
    )
    assert not psutil.wait_procs([victim, other], timeout=10)[1]
    due_now(job)
    supervise.supervise(claims.claim("gpu", "w"), never)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("succeeded", 2), job.error
    assert job.result["steps"] == 240
    assert job.events.filter(message__startswith="resumed from step").count() == 1
    assert job.metrics.filter(name="loss").count() == 240


@pytest.mark.timeout(600)
def test_a_job_of_two_processes_that_can_never_work_is_not_tried_again(fleet, tmp_path) -> None:
    job = asked(fleet, tmp_path / "base", 0)
    supervise.supervise(claims.claim("gpu", "w"), never)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == "ValueError: there are no examples to train on (0 were left out)"
    assert json.loads((job.folder / jobs.JOB).read_text())["processes"] == 2
