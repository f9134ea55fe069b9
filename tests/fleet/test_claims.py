"""A job is claimed once at a time, and only the claim in force may write."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone

from plumbline.fleet import claims, dispatch
from plumbline.fleet.models import Job


def lose_lease(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def due_now(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(not_before=None)


def test_eight_claimers_take_each_of_many_jobs_exactly_once(fleet) -> None:
    wanted = {fleet.submit().pk for _ in range(60)}
    taken: Counter = Counter()

    def claimer(name: str) -> None:
        while job := claims.claim("cpu", name):
            taken[job.pk] += 1
        connection.close()

    threads = [threading.Thread(target=claimer, args=[f"w{i}"]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == Counter(wanted)


def test_jobs_are_taken_oldest_first_from_their_own_queue(fleet) -> None:
    first, second = fleet.submit(), fleet.submit()
    assert claims.claim("gpu", "w") is None
    assert claims.claim("cpu", "w") == first
    assert claims.claim("cpu", "w") == second
    assert claims.claim("cpu", "w") is None


def test_a_job_of_a_rolled_back_transaction_never_was(fleet) -> None:
    with transaction.atomic():
        fleet.submit()
        transaction.set_rollback(True)
    assert claims.claim("cpu", "w") is None


def test_nothing_a_zombie_writes_counts(fleet) -> None:
    fleet.submit()
    zombie = claims.claim("cpu", "zombie")
    lose_lease(zombie)
    assert claims.sweep() == 1
    due_now(zombie)
    heir = claims.claim("cpu", "heir")
    assert heir.epoch == zombie.epoch + 1
    assert not claims.heartbeat(zombie, {"done": 99})
    assert not claims.holds(zombie)
    assert not claims.succeed(zombie, {"from": "zombie"})
    assert not claims.fail(zombie, "zombie", permanent=True)
    assert not claims.cancelled(zombie)
    assert not claims.release(zombie)
    assert claims.holds(heir)
    assert claims.succeed(heir, {"from": "heir"})
    heir.refresh_from_db()
    assert (heir.state, heir.result, heir.progress) == ("succeeded", {"from": "heir"}, {})


def test_a_lease_that_is_renewed_is_left_alone(fleet) -> None:
    fleet.submit()
    job = claims.claim("cpu", "w")
    assert claims.heartbeat(job, {"done": 1})
    assert claims.sweep() == 0
    assert claims.holds(job)


def test_an_expired_lease_goes_back_to_the_queue_with_a_pause(fleet) -> None:
    fleet.submit()
    job = claims.claim("cpu", "w")
    lose_lease(job)
    assert claims.sweep() == 1
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("queued", 1)
    assert job.not_before is not None
    assert claims.claim("cpu", "w") is None  # not before


def test_a_job_whose_workers_always_die_fails_with_the_reason(fleet, settings) -> None:
    settings.MAX_ATTEMPTS = 2
    fleet.submit()
    for _ in range(2):
        job = claims.claim("cpu", "doomed")
        lose_lease(job)
        claims.sweep()
        due_now(job)
    job.refresh_from_db()
    assert job.state == "failed"
    assert job.error == "The worker doomed stopped answering."


def test_a_queued_job_is_cancelled_at_once(fleet) -> None:
    job = fleet.submit()
    dispatch.cancel(job)
    assert job.state == "cancelled"
    assert claims.claim("cpu", "w") is None


def test_a_job_whose_worker_died_after_a_cancel_was_asked_is_cancelled(fleet) -> None:
    fleet.submit()
    job = claims.claim("cpu", "w")
    dispatch.cancel(job)
    lose_lease(job)
    claims.sweep()
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_a_cancel_that_comes_too_late_changes_nothing(fleet) -> None:
    fleet.submit()
    job = claims.claim("cpu", "w")
    claims.succeed(job, {})
    dispatch.cancel(job)
    assert (job.state, job.cancel_requested) == ("succeeded", False)


def test_the_pause_between_attempts_doubles_up_to_a_minute() -> None:
    assert [claims.back_off(n) for n in (1, 2, 3, 4, 9)] == [1, 2, 4, 8, 60]


def test_submitting_without_redis_works_and_does_not_wait(fleet) -> None:
    import time

    started = time.monotonic()
    for _ in range(5):
        fleet.submit()
    assert time.monotonic() - started < 2
    assert Job.objects.count() == 5
