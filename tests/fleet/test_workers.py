"""Worker processes do every job once, whatever dies under them."""

from __future__ import annotations

import shutil

import pytest

from plumbline.fleet import dispatch
from plumbline.fleet.models import Job, Metric
from tests.fleet.house import stopped_child, terminate, wait_until


def test_a_worker_runs_a_job_in_a_child_and_copies_what_it_reports(fleet, redis, ended) -> None:
    fleet.worker()
    job = fleet.submit(steps=5)
    ended(job)
    assert job.state == "succeeded", job.error
    assert (job.result["sum"], job.attempt) == (10, 1)
    assert job.progress["done"] == 5
    assert list(job.metrics.values_list("step", flat=True)) == [0, 1, 2, 3, 4]
    assert job.events.filter(message="all steps done").count() == 1


@pytest.mark.postgres
def test_a_child_sees_no_secrets(fleet, redis, ended) -> None:
    fleet.worker()
    job = fleet.submit()
    ended(job)
    names = (job.folder / "environment.txt").read_text().split()
    assert not {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"} & set(names)


def test_without_redis_jobs_are_found_by_looking(fleet, ended) -> None:
    fleet.worker()
    job = fleet.submit()
    ended(job)
    assert job.state == "succeeded"


def test_no_job_is_lost_when_redis_is_flushed_and_killed(fleet, redis, ended) -> None:
    fleet.worker()
    first = [fleet.submit(steps=10, pause=0.05) for _ in range(3)]
    redis.client().flushall()
    second = [fleet.submit() for _ in range(3)]
    redis.kill()
    third = [fleet.submit() for _ in range(3)]
    redis.start()
    ended(*first, *second, *third)
    assert set(Job.objects.values_list("state", "attempt")) == {("succeeded", 1)}


def test_a_worker_killed_in_the_middle_takes_its_child_along_and_the_job_goes_on(
    fleet, redis, ended
) -> None:
    job = fleet.submit(steps=20, pause=0.1)
    first = fleet.worker()
    steps = job.folder / "steps.txt"
    wait_until(lambda: steps.exists() and len(steps.read_text().split()) >= 3)
    fleet.kill(first)
    wait_until(lambda: stopped_child(job), seconds=2)
    fleet.worker()
    ended(job)
    assert (job.state, job.attempt, job.epoch) == ("succeeded", 2, 2), job.error
    assert steps.read_text().split() == [str(step) for step in range(20)]
    assert Metric.objects.filter(job=job).count() == 20


@pytest.mark.postgres
def test_a_worker_that_is_told_to_leave_hands_its_job_back(fleet, redis, ended) -> None:
    job = fleet.submit(steps=20, pause=0.1)
    first = fleet.worker()
    wait_until((job.folder / "steps.txt").exists)
    terminate(first)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("queued", 0)
    assert stopped_child(job)
    fleet.worker()
    ended(job)
    assert (job.state, job.result["sum"], job.attempt) == ("succeeded", 190, 1)


@pytest.mark.postgres
def test_an_idle_worker_leaves_when_told(fleet, redis, ended) -> None:
    worker = fleet.worker()
    ended(fleet.submit())
    assert terminate(worker) == 0


@pytest.mark.postgres
def test_an_idle_worker_leaves_when_told_without_redis(fleet, ended) -> None:
    worker = fleet.worker()
    ended(fleet.submit())
    assert terminate(worker) == 0


@pytest.mark.postgres
def test_a_poison_job_fails_for_good_while_others_go_on(fleet, redis, ended) -> None:
    fleet.worker()
    poison = fleet.submit("poison")
    others = [fleet.submit() for _ in range(3)]
    ended(poison, *others)
    assert (poison.state, poison.attempt) == ("failed", 2)
    assert "SIGKILL" in poison.error
    assert {other.state for other in others} == {"succeeded"}


@pytest.mark.postgres
def test_the_end_of_the_childs_output_is_the_jobs_error(fleet, redis, ended) -> None:
    fleet.worker()
    job = fleet.submit("loud")
    ended(job)
    assert (job.state, job.attempt) == ("failed", 2)
    assert "Traceback" in job.error
    assert job.error.endswith("RuntimeError: the reason is on the last line")
    assert job.error.count("Traceback") == 1  # of the last attempt only


@pytest.mark.postgres
def test_a_job_that_can_never_work_is_not_tried_again(fleet, redis, ended) -> None:
    fleet.worker()
    job = fleet.submit("wrong")
    ended(job)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == "ValueError: this job can never work"


def test_a_running_job_is_cancelled_within_seconds(fleet, redis, ended) -> None:
    fleet.worker()
    job = fleet.submit(steps=1000, pause=0.1)
    wait_until((job.folder / "steps.txt").exists)
    dispatch.cancel(job)
    assert job.state == "running"
    ended(job, seconds=5)
    assert job.state == "cancelled"
    assert stopped_child(job)


@pytest.mark.postgres
def test_a_run_directory_that_is_gone_fails_its_job_and_not_the_worker(fleet, redis, ended) -> None:
    job = fleet.submit()
    shutil.rmtree(job.folder)
    fleet.worker()
    other = fleet.submit()
    ended(job, other)
    assert (job.state, other.state) == ("failed", "succeeded")
