"""Who works, what waits, and what the hosts have left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from plumbline.fleet import host, presence
from plumbline.fleet.models import Device, Job, Worker
from tests.fleet.house import terminate, wait_until

SMI = """#!/bin/sh
echo "GPU-1a2b, NVIDIA H200, 61440, 143771, 37"
echo "GPU-3c4d, NVIDIA H200, 0, 143771, [N/A]"
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver's program that says what it is told to."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def job(project, **fields) -> Job:
    return Job.objects.create(project=project, kind="train", queue="gpu", spec={}, **fields)


def test_gpus_tell_their_memory_and_use(smi) -> None:
    first, second = host.gpus()
    assert first == {
        "uuid": "GPU-1a2b", "name": "NVIDIA H200", "memory": [61440 * 2**20, 143771 * 2**20],
        "use": 0.37,
    }  # fmt: skip
    assert second["use"] is None


@pytest.mark.parametrize("says", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho No devices found\n"])
def test_a_driver_that_fails_leaves_no_gpus(smi, says) -> None:
    smi.write_text(says)
    assert host.gpus() == []


def test_a_host_tells_its_processors_and_memory() -> None:
    found = host.facts()
    assert found["cpus"] >= 1
    assert 0 < found["memory"][0] < found["memory"][1]


def test_memory_that_cannot_be_read_is_left_out(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(host, "MEMORY", tmp_path / "none")
    assert "memory" not in host.facts()


@pytest.mark.django_db
def test_a_sign_of_life_makes_a_row_and_then_renews_it(project) -> None:
    presence.report("here:1", ["cpu"], None)
    before = Worker.objects.get()
    at_work = job(project)
    presence.report("here:1", ["cpu"], at_work.pk)
    (after,) = presence.workers()
    assert (after.started_at, after.job) == (before.started_at, at_work)
    assert after.seen_at >= before.seen_at
    presence.leave("here:1")
    assert presence.workers() == []


@pytest.mark.django_db
def test_a_worker_that_says_nothing_is_silent_and_later_forgotten() -> None:
    presence.report("here:1", ["cpu"], None)
    (one,) = presence.workers()
    assert presence.alive(one, one.seen_at + timedelta(seconds=19))
    assert not presence.alive(one, one.seen_at + timedelta(seconds=21))
    Worker.objects.update(seen_at=timezone.now() - timedelta(hours=2))
    presence.report("here:2", ["gpu"], None)
    assert [one.name for one in Worker.objects.all()] == ["here:2"]


@pytest.mark.django_db
def test_queues_say_what_waits_and_for_whom(project) -> None:
    now = timezone.now()
    presence.report("here:1", ["gpu"], None)
    first, _ = job(project), job(project)
    job(project, not_before=now + timedelta(minutes=1))
    job(project, state="running", lease_until=now + timedelta(minutes=1))
    job(project, state="succeeded")
    cpu, gpu = presence.queues(presence.workers(), timezone.now())
    assert (cpu.name, cpu.due, cpu.oldest, cpu.workers) == ("cpu", 0, None, 0)
    assert (gpu.due, gpu.later, gpu.running, gpu.workers) == (2, 1, 1, 1)
    assert gpu.oldest == first.created_at


@pytest.mark.django_db
def test_a_gpu_is_claimed_only_while_its_job_runs(project) -> None:
    runs = job(project, state="running", epoch=2, lease_until=timezone.now())
    Device.objects.create(name="GPU-1a2b", job=runs, epoch=2)
    Device.objects.create(name="GPU-3c4d", job=runs, epoch=1)
    assert presence.claimed() == {"GPU-1a2b": runs}


def test_a_real_worker_says_what_it_does_until_it_leaves(fleet, redis, ended) -> None:
    long = fleet.submit(steps=1000, pause=0.1)
    worker = fleet.worker()
    wait_until(lambda: Worker.objects.filter(job=long).exists(), seconds=30)
    (one,) = presence.workers()
    assert "cpu" in one.queues or "gpu" in one.queues
    terminate(worker)
    wait_until(lambda: not Worker.objects.exists())
