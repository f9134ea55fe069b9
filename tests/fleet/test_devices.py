"""Jobs on one host share out its GPUs: each has its own, and a dead one keeps none."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from plumbline.fleet import claims, devices
from plumbline.fleet.models import Device, Job
from tests.fleet.house import wait_until

FOUR = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")


def take(gpus: tuple[str, ...] = FOUR) -> Job | None:
    return claims.claim("gpu", "w", gpus)


def test_each_job_gets_as_many_gpus_as_it_asks_for_and_no_other_job_has_them(fleet) -> None:
    fleet.submit_training(), fleet.submit_training(2), fleet.submit_training()
    held = [devices.held(take()) for _ in range(3)]
    assert [len(one) for one in held] == [1, 2, 1]
    assert sorted(name for one in held for name in one) == list(FOUR)


def test_a_job_for_which_too_few_gpus_are_free_waits_and_a_smaller_one_goes_first(fleet) -> None:
    first, large, small = (fleet.submit_training(n) for n in (3, 2, 1))
    running = take()
    assert running == first
    assert take() == small
    assert take() is None
    large.refresh_from_db()
    assert (large.state, large.attempt, large.epoch) == ("queued", 0, 0)
    assert not large.events.exists()
    claims.succeed(running, {})
    assert take() == large


def test_a_job_may_ask_for_all_that_are_free(fleet) -> None:
    fleet.submit_training(1), fleet.submit_training(0), fleet.submit_training(0)
    take()
    assert devices.held(take()) == ["GPU-b", "GPU-c", "GPU-d"]
    assert take() is None


def test_a_job_that_asks_for_more_than_the_host_has_gets_all_of_it(fleet) -> None:
    fleet.submit_training(8)
    job = take()
    assert devices.held(job) == list(FOUR)
    assert devices.processes(job, FOUR) == 4


def test_without_gpus_jobs_run_side_by_side_with_as_many_processes_as_they_ask_for(fleet) -> None:
    for processes in (1, 2, 0):
        fleet.submit_training(processes)
    taken = [take(()) for _ in range(3)]
    assert [devices.processes(job, devices.held(job)) for job in taken] == [1, 2, 1]


def test_jobs_of_the_cpu_queue_take_no_gpu(fleet) -> None:
    fleet.submit()
    assert devices.held(claims.claim("cpu", "w", FOUR)) == []


@pytest.mark.parametrize("end", ["succeed", "fail", "cancelled", "release"])
def test_however_a_job_ends_its_gpus_are_free(fleet, end: str) -> None:
    fleet.submit_training(4)
    job = take()
    heir = fleet.submit_training(4)
    assert take() is None
    told = {"succeed": ({},), "fail": ("no", True)}.get(end, ())
    assert getattr(claims, end)(job, *told)
    Job.objects.filter(pk=job.pk, state="queued").delete()
    assert take() == heir


def test_the_gpus_of_a_worker_that_stopped_answering_are_free(fleet) -> None:
    fleet.submit_training(4)
    dead = take()
    Job.objects.filter(pk=dead.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    heir = fleet.submit_training(4)
    assert take() is None  # not before the sweep has said so
    claims.sweep()
    assert take() == heir
    assert devices.held(dead) == []


def test_an_attempt_does_not_inherit_the_claims_of_the_one_before(fleet) -> None:
    job = fleet.submit_training(1)
    claims.release(take())
    again = take(("GPU-d",))
    assert again == job
    assert devices.held(again) == ["GPU-d"]


def test_the_gpus_of_another_host_are_another_matter(fleet) -> None:
    fleet.submit_training(), fleet.submit_training()
    assert devices.held(take(("here/0",))) == ["here/0"]
    there = devices.held(take(("there/0",)))
    assert devices.environment(there) == {"CUDA_VISIBLE_DEVICES": "0"}


def test_workers_that_claim_at_the_same_moment_never_share_a_gpu(fleet) -> None:
    for _ in range(12):
        fleet.submit_training(1)
    taken: list[Job] = []

    def claimer() -> None:
        while job := take():
            taken.append(job)
        connection.close()

    threads = [threading.Thread(target=claimer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 4
    assert sorted(Device.objects.values_list("name", flat=True)) == list(FOUR)
    assert {name for job in taken for name in devices.held(job)} == set(FOUR)


def test_the_setting_names_gpus_by_number_by_uuid_or_not_at_all(settings, monkeypatch) -> None:
    monkeypatch.setattr(devices, "_by_number", lambda: {"0": "GPU-x", "1": "GPU-y"})
    monkeypatch.setattr(devices.socket, "gethostname", lambda: "here")
    said = {}
    for value in ("all", "none", "-1", "1", "GPU-y,1", "7"):
        settings.GPUS = value
        said[value] = devices.found()
    assert said == {
        "all": ("GPU-x", "GPU-y"),
        "none": (),
        "-1": (),
        "1": ("GPU-y",),
        "GPU-y,1": ("GPU-y", "GPU-y"),
        "7": ("here/7",),
    }


def test_the_engine_s_gpus_are_for_no_job_unless_the_engine_lends_them(
    settings, monkeypatch
) -> None:
    monkeypatch.setattr(devices, "_by_number", lambda: {"0": "GPU-x", "1": "GPU-y"})
    settings.GPUS, settings.ENGINE_GPUS = "all", "0"
    assert devices.found() == ("GPU-y",)
    settings.ENGINE_SLEEPS = True
    assert devices.found() == ("GPU-y", "GPU-x")  # the engine's last
    settings.GPUS = "GPU-y"
    assert devices.found() == ("GPU-y",)


def test_an_engine_that_has_all_gpus_and_lends_none_is_told_of(settings, monkeypatch) -> None:
    monkeypatch.setattr(devices, "_by_number", lambda: {"0": "GPU-x", "1": "GPU-y"})
    settings.GPUS, settings.ENGINE_GPUS = "all", "1,GPU-x"
    assert [one.id for one in run_checks()] == ["fleet.W001"]
    with pytest.raises(CommandError, match="let the engine lend them with ENGINE_SLEEPS=1"):
        call_command("worker", "gpu")
    for more in ({"ENGINE_SLEEPS": True}, {"ENGINE_GPUS": "1"}, {"GPUS": "none"}):
        with override_settings(**more):
            assert run_checks() == []


def test_a_job_without_gpus_does_not_take_the_engine_s(settings) -> None:
    settings.GPUS, settings.ENGINE_GPUS = "all", "none"
    assert devices.environment([]) == {}
    settings.ENGINE_GPUS = "0"
    assert devices.environment([]) == {"CUDA_VISIBLE_DEVICES": ""}
    settings.GPUS, settings.ENGINE_GPUS = "none", "none"
    assert devices.environment([]) == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.postgres
def test_workers_of_one_host_run_jobs_side_by_side_each_on_its_own_gpu(fleet, ended) -> None:
    running = [fleet.submit_training(steps=150, pause=0.1) for _ in range(2)]
    third = fleet.submit_training()
    workers = [fleet.worker("gpu", GPUS="0,1") for _ in range(3)]
    wait_until(lambda: all((job.folder / "gpus.txt").exists() for job in running))
    assert {(job.folder / "gpus.txt").read_text() for job in running} == {"0", "1"}
    third.refresh_from_db()
    assert (third.state, third.attempt) == ("queued", 0)
    running[0].refresh_from_db()
    holder = int(running[0].worker.rpartition(":")[2])
    fleet.kill(next(one for one in workers if one.pid == holder))
    ended(third)  # on the dead worker's GPU, once its lease is over
    assert third.state == "succeeded", third.error
    assert (third.folder / "gpus.txt").read_text() in {"0", "1"}
