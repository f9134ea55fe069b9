"""What the fleet makes of an attempt that failed: what may pass is tried again, a bad job is not.

transient: the disk is full, memory is short, the process was killed, a bug showed itself; tried
again with a growing pause until the attempts are used up. permanent: the job or its data cannot
work, whoever runs it.
"""

from __future__ import annotations

import pytest

from align import jobs
from plumbline.fleet import claims, supervise
from plumbline.fleet.models import Event, Job


def attempt(job: Job) -> Job:
    Job.objects.filter(pk=job.pk).update(not_before=None)
    claimed = claims.claim("cpu", "here")
    assert claimed is not None
    assert claimed.pk == job.pk
    supervise.supervise(claimed, lambda: False)
    job.refresh_from_db()
    return job


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("full", jobs.FULL),
        ("large", "memory runs out with a single example at a time"),
        ("poison", "The process was ended by SIGKILL."),
        ("loud", "the reason is on the last line"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_fails_with_the_reason(
    model, reason, fleet, settings
) -> None:
    settings.MAX_ATTEMPTS = 2
    job = attempt(fleet.submit(model))
    assert (job.state, job.attempt) == ("queued", 1)
    assert job.not_before is not None, "with a pause"
    attempt(job)
    assert (job.state, job.attempt) == ("failed", 2)
    assert claims.reason(job.error).startswith(reason)
    assert Event.objects.filter(job=job, message__startswith="trying again in 1 s: ").count() == 1


def test_a_bad_job_is_not_tried_again(fleet) -> None:
    job = attempt(fleet.submit("wrong"))
    assert (job.state, job.attempt) == ("failed", 1)
    assert claims.reason(job.error) == "this job can never work"


def test_a_full_disk_is_said_even_where_the_child_could_not_write_a_word(fleet) -> None:
    job = claims.claim("cpu", "here") if fleet.submit("full") else None
    assert job is not None
    child = supervise.Child(job)
    assert child.ended(60) == jobs.DISK_FULL
    (job.folder / jobs.STDERR).write_text("")
    assert child.last_words(jobs.DISK_FULL) == jobs.FULL


@pytest.mark.nightly
def test_one_poison_job_among_a_hundred_fails_and_the_others_are_done(fleet, redis, ended) -> None:
    fleet.worker()
    fleet.worker()
    made = [fleet.submit("poison" if number == 17 else "steady", steps=1) for number in range(100)]
    ended(*made, seconds=400)
    poison = made.pop(17)
    assert (poison.state, poison.attempt) == ("failed", 2)
    assert claims.reason(poison.error) == "The process was ended by SIGKILL."
    assert {job.state for job in made} == {"succeeded"}
    assert {job.attempt for job in made} == {1}
