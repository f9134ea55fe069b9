"""What is summed up of a job once, and what of it at each later look."""

from __future__ import annotations

import pytest

from plumbline.fleet.models import Job, Metric
from plumbline.lab import buckets
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(project) -> Job:
    return lab.train_job(lab.round_at(lab.experiment(project), Stage.TRAIN), "running")


def log(job: Job, steps, name: str = "loss") -> None:
    Metric.objects.bulk_create(
        Metric(job=job, step=step, name=name, value=float(step)) for step in steps
    )


def look(job: Job, points: int = 8) -> dict[str, buckets.Sums]:
    return buckets.of(Job.objects.get(pk=job.pk), points, {"epoch"})


def whole(steps, width: int) -> buckets.Sums:
    """What the sums should be."""
    found: dict[int, list[float]] = {}
    for step in steps:
        found.setdefault(step - step % width, []).append(float(step))
    return {at: (sum(v), len(v), min(v), max(v)) for at, v in found.items()}


def test_a_job_that_goes_on_is_summed_up_as_if_it_were_read_at_once(job):
    for last in (5, 6, 14, 100):
        log(job, range(1 + Metric.objects.count(), last + 1))
        width = {5: 1, 6: 1, 14: 2, 100: 16}[last]
        assert look(job) == {"loss": whole(range(1, last + 1), width)}


def test_a_series_that_begins_anew_after_others_is_not_missed(job):
    log(job, range(1, 101))
    look(job)
    log(job, range(1, 11), "fold 2/loss")
    assert look(job)["fold 2/loss"] == whole(range(1, 11), 16)


def test_what_was_summed_up_is_not_read_again(job, django_assert_num_queries):
    log(job, range(1, 51))
    first = look(job)
    Metric.objects.filter(step__lt=40).delete()  # nobody looks there any more
    assert look(job) == first
    Job.objects.filter(pk=job.pk).update(state="succeeded")
    look(job)
    over = Job.objects.get(pk=job.pk)
    with django_assert_num_queries(0):
        assert buckets.of(over, 8, {"epoch"}) == first


def test_what_is_hidden_is_not_summed_up(job):
    log(job, [1, 2], "epoch")
    assert look(job) == {}
