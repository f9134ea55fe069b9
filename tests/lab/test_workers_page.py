"""The page of workers: what people see of the fleet, and what they must not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.fleet import presence
from plumbline.fleet.models import Device, Worker
from plumbline.loop.models import Stage
from plumbline.policies.models import Loan
from tests.lab import laboratory as lab
from tests.lab.test_answers import words

pytestmark = pytest.mark.django_db
HERE = "/p/alpha/lab/workers/"
FACTS = {
    "cpus": 16, "load": 4.0, "memory": [8 * 2**30, 32 * 2**30],
    "gpus": [{"uuid": "GPU-1", "name": "NVIDIA H200", "memory": [2**36, 2**37], "use": 0.37}],
}  # fmt: skip


@pytest.fixture
def worker() -> Worker:
    presence.report("node-a:17", ["cpu", "gpu"], None)
    Worker.objects.update(facts=FACTS, host="node-a")
    return Worker.objects.get()


def working(worker: Worker, project):
    """A job of the project that the worker has in hand, on its GPU."""
    job = lab.train_job(lab.round_at(lab.experiment(project), Stage.TRAIN), "running", epoch=1)
    Device.objects.create(name="GPU-1", job=job, epoch=1)
    Worker.objects.update(job=job)
    return job


def test_without_workers_the_page_says_how_to_start_one(researcher):
    page = words(researcher.get(HERE))
    assert "No worker was seen within the hour" in page
    assert "make demo" in page


def test_a_worker_shows_what_it_does_and_what_its_host_has_left(researcher, worker, project):
    job = working(worker, project)
    page = words(researcher.get(HERE))
    assert "node-a:17 at work cpu, gpu" in page
    assert f"{job.title} for 30 s" in page
    assert "load 4 on 16" in page
    assert "8.0 of 32.0 GiB" in page
    assert f"64.0 of 128.0 GiB, {job.title}" in page
    assert "37 %" in page


def test_work_of_another_project_has_no_name(researcher, worker, charlie):
    job = working(worker, charlie.projects.get())
    page = words(researcher.get(HERE))
    assert job.title not in page
    assert "a job of another project" in page


def test_a_silent_worker_is_called_so_and_its_host_not_shown(researcher, worker):
    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=2))
    page = words(researcher.get(HERE))
    assert "node-a:17 silent" in page
    assert "Hosts" not in page


def test_jobs_that_nobody_takes_are_called_so(researcher, project):
    lab.train_job(lab.round_at(lab.experiment(project), Stage.TRAIN), "queued")
    assert "nobody takes these" in words(researcher.get(HERE))
    presence.report("node-a:17", ["gpu"], None)
    assert "nobody takes these" not in words(researcher.get(HERE))


def test_only_the_live_part_is_polled(researcher, worker):
    part = researcher.get(HERE, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="section" id="workers"')


def test_an_engine_that_is_away_says_so_and_a_loan_as_well(researcher, settings):
    settings.ENGINE_URL = "http://127.0.0.1:9"
    Loan.objects.create(job="00000000-0000-0000-0000-000000000001", epoch=1)
    part = words(researcher.get(f"{HERE}engines/"))
    assert "http://127.0.0.1:9 away" in part
    assert "lent its memory" in part


def test_an_engine_that_is_up_says_what_it_serves(researcher, engine, settings):
    settings.ENGINE_URL = engine.url
    assert f"{engine.url} up" in words(researcher.get(f"{HERE}engines/"))
