"""The watch over one child process: what it reports, how it is stopped, when it is given up."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import psutil
import pytest
from django.db import connection

from align import jobs
from plumbline.fleet import claims, dispatch, supervise
from plumbline.fleet.models import Job
from plumbline.fleet.reports import Reports
from tests.fleet.house import stopped_child, wait_until


def never() -> bool:
    return False


def in_background(job: Job) -> threading.Thread:
    def run() -> None:
        try:
            supervise.supervise(job, never)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time(
    fleet, monkeypatch, settings
) -> None:
    monkeypatch.setattr(supervise, "GRACE_SECONDS", 0.5)
    settings.HEARTBEAT_SECONDS, settings.JOB_NICE = 0, 7
    job = fleet.submit("deaf", steps=1000, pause=0.05)
    watch = in_background(claims.claim("cpu", "w"))
    wait_until((job.folder / "steps.txt").exists)
    child = psutil.Process(int((job.folder / "child.pid").read_text()))
    assert child.nice() == os.nice(0) + 7
    dispatch.cancel(job)
    watch.join(timeout=20)
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert stopped_child(job)


def test_a_worker_that_lost_its_lease_kills_its_child_and_writes_nothing(fleet, settings) -> None:
    settings.HEARTBEAT_SECONDS = 0
    job = fleet.submit(steps=1000, pause=0.05)
    watch = in_background(claims.claim("cpu", "zombie"))
    wait_until((job.folder / "steps.txt").exists)
    Job.objects.filter(pk=job.pk).update(epoch=7, worker="heir", progress={"done": "heir"})
    watch.join(timeout=20)
    job.refresh_from_db()
    assert stopped_child(job)
    assert (job.state, job.worker, job.progress) == ("running", "heir", {"done": "heir"})


@pytest.mark.postgres
def test_a_worker_that_slept_past_its_lease_changes_nothing_when_it_wakes(
    fleet, redis, ended
) -> None:
    job = fleet.submit(steps=40, pause=0.1)
    sleeper = fleet.worker()
    wait_until((job.folder / "steps.txt").exists)
    sleeper.send_signal(signal.SIGSTOP)
    fleet.worker()
    ended(job)
    assert job.state == "succeeded", job.error
    assert (job.epoch, job.result["sum"]) == (2, 780)
    sleeper.send_signal(signal.SIGCONT)
    wait_until(lambda: fleet.log.read_text().count("the attempt is over") == 2)
    job.refresh_from_db()
    assert (job.state, job.epoch, job.result["sum"]) == ("succeeded", 2, 780)
    assert job.events.filter(message="done").count() == 1
    assert job.metrics.count() == 40


def claimed_with_events(fleet, *events: dict, tail: str = "") -> Job:
    job = fleet.submit()
    text = "".join(json.dumps(event) + "\n" for event in events) + tail
    (job.folder / jobs.EVENTS).write_text(text)
    return claims.claim("cpu", "w")


def test_a_step_logged_again_after_a_resume_counts_once(fleet) -> None:
    first = {"type": "metric", "step": 1, "values": {"loss": 0.5}, "elapsed": 1}
    again = first | {"elapsed": 0.5}
    job = claimed_with_events(fleet, first, again)
    assert Reports(job).copy()
    assert Reports(Job.objects.get(pk=job.pk)).copy()
    assert list(job.metrics.values_list("step", "value")) == [(1, 0.5)]


def test_log_lines_are_copied_once_over_attempts(fleet) -> None:
    job = claimed_with_events(fleet, {"type": "log", "message": "hello", "elapsed": 1})
    for _ in range(2):
        assert Reports(Job.objects.get(pk=job.pk)).copy()
    assert job.events.filter(message="hello").count() == 1


def test_a_line_that_is_still_being_written_waits(fleet) -> None:
    done = {"type": "progress", "done": 1, "total": 9, "unit": "steps", "elapsed": 1}
    job = claimed_with_events(fleet, done, tail='{"type": "log", "mess')
    reports = Reports(job)
    assert reports.copy()
    assert reports.progress == {"done": 1, "total": 9, "unit": "steps"}
    with (job.folder / jobs.EVENTS).open("a") as out:
        out.write('age": "whole", "elapsed": 2}\n')
    assert reports.copy()
    assert job.events.filter(message="whole").exists()


def test_time_left_is_judged_by_this_attempts_own_pace(fleet) -> None:
    def at(done: int, elapsed: float) -> dict:
        return {"type": "progress", "done": done, "total": 100, "unit": "steps", "elapsed": elapsed}

    earlier = [at(1, 1), at(50, 1000)]  # a slow attempt that was killed
    job = claimed_with_events(fleet, *earlier, at(50, 2), at(60, 7))
    reports = Reports(job)
    reports.copy()
    assert reports.progress["rate"] == 2
    assert reports.progress["left"] == 20
    assert "tokens_per_second" not in reports.progress


def test_tokens_a_second_are_those_of_this_attempt(fleet) -> None:
    def at(done: int, elapsed: float, tokens: int) -> dict:
        line = {"type": "progress", "done": done, "total": 100, "unit": "steps"}
        return {**line, "elapsed": elapsed, "tokens": tokens}

    # Each attempt counts from nothing; the first step is where its watch starts.
    earlier = [at(1, 1, 900), at(50, 1000, 45_000)]
    job = claimed_with_events(fleet, *earlier, at(41, 2, 1_000), at(60, 12, 20_500))
    reports = Reports(job)
    reports.copy()
    assert reports.progress["tokens_per_second"] == 1950
    assert reports.progress["rate"] == 1.9


def test_a_figure_that_is_not_finite_is_left_out(fleet) -> None:
    values = {"loss": float("nan"), "grad_norm": 1.0}
    job = claimed_with_events(fleet, {"type": "metric", "step": 1, "values": values, "elapsed": 1})
    assert Reports(job).copy()
    assert list(job.metrics.values_list("name", flat=True)) == ["grad_norm"]


def test_a_heartbeat_survives_a_database_that_is_away(fleet, monkeypatch) -> None:
    from django.db import OperationalError

    fleet.submit()
    job = claims.claim("cpu", "w")
    heart = supervise.Heart(job)
    with monkeypatch.context() as broken:

        def away(*args: object) -> bool:
            raise OperationalError("away")

        broken.setattr(claims, "heartbeat", away)
        assert heart.beat(now=True)
    before = Job.objects.get(pk=job.pk).heartbeat_at
    time.sleep(0.01)
    assert heart.beat(now=True)
    assert Job.objects.get(pk=job.pk).heartbeat_at > before
