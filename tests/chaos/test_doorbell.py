"""Redis is a doorbell: flushed, full, killed or deaf, it takes no vote and no job with it, and
nobody waits for it. Celery is set so that what it may lose is only a bell."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from redis.exceptions import OutOfMemoryError

from plumbline.celery import app
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.fleet import claims, dispatch
from plumbline.fleet.models import Job
from tests.comparisons import open_campaign
from tests.fleet import house
from tests.fleet.house import wait_until

fleet, redis, ended = house.fleet, house.redis, house.ended

BUDGET = 2.0  # seconds for a page

WANTED = {
    "task_acks_late": False,  # early: a killed child's late acknowledgement would lie anyway
    "task_ignore_result": True,
    "result_backend": None,  # results are rows
    "accept_content": ["json"],
    "task_serializer": "json",
    "worker_prefetch_multiplier": 1,
    "broker_connection_max_retries": None,  # for ever
    "broker_connection_retry_on_startup": True,
    "broker_channel_error_retry": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_enable_remote_control": False,  # a cancel is a flag in the database
}


@pytest.mark.parametrize("name", sorted(WANTED))
def test_celery_is_set_as_a_doorbell_must_be(name: str) -> None:
    assert app.conf[name] == WANTED[name]


def test_no_bell_is_rung_late_or_twice_by_celery() -> None:
    """No ETA, no retry, no revoke: a message that is old is dropped, and rung again by a sweep."""
    sources = Path(settings.ROOT, "platform", "plumbline").rglob("*.py")
    text = "\n".join(path.read_text() for path in sources)
    for word in (
        "apply_async(",
        ".delay(",
        "countdown=",
        "control.revoke(",
        "chord(",
        "celery.chain",
    ):
        assert word not in text, word
    assert 0 < dispatch.STALE <= 60


class Deaf:
    """A socket where Redis should be, that takes connections and never says a word."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(512)

    def close(self) -> None:
        self._listening.close()
        self._path.unlink(missing_ok=True)


@pytest.fixture
def deaf() -> Iterator[None]:
    listening = Deaf(Path(settings.REDIS_URL.removeprefix("redis+socket://")))
    yield
    listening.close()


@pytest.fixture
def full(redis: Any) -> None:
    """A Redis of one megabyte that evicts nothing and has nothing left."""
    client = redis.client()
    client.config_set("maxmemory", "1mb")
    client.config_set("maxmemory-policy", "noeviction")
    ballast = b"x" * 100_000
    with contextlib.suppress(OutOfMemoryError):
        while True:
            client.append("ballast", ballast)
    with pytest.raises(OutOfMemoryError):
        client.append("ballast", ballast)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`timed(act)`: its result, within the budget, with no bell held back by an earlier trouble."""

    def run(act: Callable[[], Any]) -> Any:
        monkeypatch.setattr(dispatch, "_silent_until", 0.0)
        started = time.monotonic()
        found = act()
        taken = time.monotonic() - started
        assert taken < BUDGET, f"{taken:.1f} s"
        return found

    return run


def _at_work(timed: Any, fleet: Any, client: Any, campaign: Any, bob: Any) -> None:
    """People read and vote, jobs are asked for, and the loop sweeps."""
    for _ in range(3):
        page = timed(lambda: client.post(f"/p/alpha/campaigns/{campaign.pk}/claim/"))
        ballot = Ballot.objects.get(annotator=bob, outcome="")
        assert page["Location"] == f"/p/alpha/ballots/{ballot.pk}/"
        assert timed(lambda: client.get(f"/p/alpha/campaigns/{campaign.pk}/")).status_code == 200
        form = {"choice": "A2", "key": str(uuid4())}
        reply = timed(lambda b=ballot, f=form: client.post(f"/p/alpha/ballots/{b.pk}/", f))
        assert reply.status_code == 303
        assert timed(fleet.submit).state == "queued"
        assert timed(claims.sweep) == 0
    assert Ballot.objects.filter(outcome="ranked").count() == 3
    assert Job.objects.count() == 3


@pytest.fixture
def work(timed: Any, fleet: Any, project: Any, bob: Any, client_for: Any) -> Callable[[], None]:
    campaign = open_campaign(project, comparisons=4)
    client = client_for(bob)
    client.get(f"/p/alpha/campaigns/{campaign.pk}/")  # the first page loads all templates
    client.post(f"/p/alpha/campaigns/{campaign.pk}/claim/")
    return lambda: _at_work(timed, fleet, client, campaign, bob)


def test_nobody_waits_for_a_redis_that_is_deaf(deaf: None, work: Callable[[], None]) -> None:
    work()


def test_nobody_waits_for_a_redis_that_is_full(full: None, work: Callable[[], None]) -> None:
    work()


def test_nobody_waits_for_a_redis_that_is_gone(work: Callable[[], None]) -> None:
    work()


@pytest.mark.nightly
def test_jobs_get_done_beside_a_redis_that_is_full(
    fleet: Any, redis: Any, full: None, ended: Any
) -> None:
    fleet.worker()
    jobs = [fleet.submit() for _ in range(3)]
    ended(*jobs)
    assert {job.state for job in jobs} == {"succeeded"}


def test_jobs_get_done_beside_a_redis_that_is_deaf(fleet: Any, deaf: None, ended: Any) -> None:
    """The worker connects and hears nothing; it looks at the database by itself."""
    fleet.worker()
    jobs = [fleet.submit() for _ in range(3)]
    ended(*jobs)
    assert {job.state for job in jobs} == {"succeeded"}


def test_a_sweep_rings_again_for_what_was_flushed(fleet: Any, redis: Any, monkeypatch: Any) -> None:
    client = redis.client()
    fleet.submit()
    wait_until(lambda: client.llen("cpu") == 1, 10)
    client.flushall()
    claims.sweep()
    wait_until(lambda: client.llen("cpu") == 1, 10)
    claims.sweep()
    assert client.llen("cpu") == 1, "not at every look"
    monkeypatch.setattr(claims, "RING_EVERY", 0.0)
    claims.sweep()
    wait_until(lambda: client.llen("cpu") == 2, 10)


def test_a_bell_holds_nothing_that_counts(fleet: Any, redis: Any) -> None:
    client = redis.client()
    job = fleet.submit()
    wait_until(lambda: client.llen("cpu") == 1, 10)
    message = client.lindex("cpu", 0).decode()
    assert str(job.pk) not in message
    assert "steady" not in message


def test_many_bells_at_once_are_one_thread(fleet: Any, deaf: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatch, "_silent_until", 0.0)
    started = time.monotonic()
    for _ in range(500):
        dispatch.ring("cpu")
        dispatch.ring("gpu")
    assert time.monotonic() - started < 1
    bells = [one for one in threading.enumerate() if one.name.startswith("bell")]
    assert len(bells) <= 1


def test_a_worker_that_only_hears_is_made_up_for_by_one_that_looks(
    fleet: Any, redis: Any, ended: Any
) -> None:
    """A stopped consumer has the bell and does nothing with it; another worker finds the job."""
    stopped = fleet.worker()
    first = fleet.submit()
    ended(first)
    os.kill(stopped.pid, signal.SIGSTOP)
    jobs = [fleet.submit() for _ in range(3)]
    fleet.worker()
    ended(*jobs)
    assert {job.state for job in jobs} == {"succeeded"}
    os.kill(stopped.pid, signal.SIGCONT)


@pytest.mark.nightly
def test_a_worker_whose_connection_is_cut_again_and_again_goes_on(
    fleet: Any, redis: Any, ended: Any
) -> None:
    """It may come back without listening: then it still looks."""
    fleet.worker()
    first = fleet.submit()
    ended(first)
    client = redis.client()
    for _ in range(5):
        client.client_kill_filter(skipme=True, _type="normal")
        time.sleep(0.2)
    jobs = [fleet.submit() for _ in range(3)]
    ended(*jobs)
    assert {(job.state, job.attempt) for job in jobs} == {("succeeded", 1)}


def test_a_vote_is_stored_before_any_bell(
    project: Any, bob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Votes ring for nothing at all."""
    rung: list[str] = []
    monkeypatch.setattr(dispatch, "ring", rung.append)
    ballot = queue.claim_next(bob, open_campaign(project, comparisons=1))
    assert ballot is not None
    queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]]), uuid4())
    assert rung == []
