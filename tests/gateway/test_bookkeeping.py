"""Looking up and writing down never stand between a client and its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.db import OperationalError

from plumbline.accounts import keys
from plumbline.gateway import journal
from plumbline.gateway.directory import Directory
from plumbline.gateway.journal import Journal
from plumbline.gateway.models import Exchange
from plumbline.policies import serving

ASK = {"model": "current", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.fixture
def exchange(transactional_db: None, project: Any) -> Callable[..., Exchange]:
    policy = serving.base_policy(project)

    def make(name: str, **changes: Any) -> Exchange:
        fields = {"project_id": project.pk, "policy_id": policy.pk, "asked_for": "current"}
        return Exchange(completion_id=name, status=200, latency_ms=1, **{**fields, **changes})

    return make


def test_exchanges_wait_for_a_database_that_is_away(
    exchange: Callable[..., Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, failures = Journal._insert, [OperationalError("database is locked")] * 3

    def unlucky(self: Journal, batch: list[Exchange]) -> None:
        if failures:
            raise failures.pop()
        insert(self, batch)

    monkeypatch.setattr(Journal, "_insert", unlucky)
    monkeypatch.setattr(journal, "BATCH", 2)

    async def serve() -> None:
        book = Journal()
        book.start()
        for i in range(5):
            book.add(exchange(f"chatcmpl-{i}"))
        await asyncio.sleep(6 * journal.PAUSE)
        await book.close()

    asyncio.run(serve())
    assert [one.completion_id for one in Exchange.objects.order_by("id")] == [
        f"chatcmpl-{i}" for i in range(5)
    ]


def test_one_exchange_that_cannot_be_written_does_not_lose_the_others(
    exchange: Callable[..., Exchange],
) -> None:
    async def serve() -> None:
        book = Journal()
        book.start()
        for name in ("a", "b", "a", "c"):  # the same completion twice breaks a constraint
            book.add(exchange(name))
        await book.close()

    asyncio.run(serve())
    assert sorted(Exchange.objects.values_list("completion_id", flat=True)) == ["a", "b", "c"]


def test_a_hundred_requests_at_once_share_one_look_at_the_database(
    transactional_db: None, project: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = keys.create(project, "app", ["infer"], alice)
    verify, looks = keys.verify, []

    def counted(given: str) -> Any:
        looks.append(given)
        time.sleep(0.05)
        return verify(given)

    monkeypatch.setattr(keys, "verify", counted)

    async def serve() -> list[Any]:
        directory = Directory()
        found = await asyncio.gather(*(directory.caller(secret) for _ in range(100)))
        await directory.close()
        return found

    callers = asyncio.run(serve())
    assert {caller.project for caller in callers} == {project.pk}
    assert len(looks) == 1


def _asked_for_a_second(query: Any, fresh: float = 0.2, every: float = 0.03) -> list[Any]:
    """What somebody is told who asks the directory again and again, and when they asked."""

    async def serve() -> list[Any]:
        directory, told = Directory(), []
        until = time.monotonic() + 1
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                answer = await directory.ask("key", query, fresh)
            except OperationalError:
                answer = None
            told.append((answer, began))
            await asyncio.sleep(every)
        await directory.close()
        return told

    return asyncio.run(serve())


def test_who_asks_again_and_again_hardly_waits_and_is_never_told_what_is_too_old() -> None:
    def slow() -> float:
        began = time.monotonic()
        time.sleep(0.05)
        return began

    told = _asked_for_a_second(slow)
    assert all(asked - began < 0.2 for began, asked in told)
    waited = [asked for began, asked in told if began >= asked]
    assert 1 <= len(waited) <= 3, "the first, and who comes after a standstill of this machine"
    assert len({began for began, _ in told}) >= 4


def test_a_look_ahead_that_fails_costs_nobody_an_answer_that_still_holds() -> None:
    looks = 0

    def now_and_then() -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise OperationalError("gone for a moment")
        return looks

    told = [answer for answer, _ in _asked_for_a_second(now_and_then)]
    assert told.count(None) <= 1, "who asks between the failure and its being known"
    assert told[0] == 1
    assert told[-1] >= 4


def test_a_database_that_is_away_is_503_and_asked_again_by_the_next_request(
    http: httpx.Client, current: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = keys.verify

    def away(secret: str) -> Any:
        raise OperationalError("database is locked")

    monkeypatch.setattr(keys, "verify", away)
    reply = http.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json()["error"]["type"] == "server_error"
    monkeypatch.setattr(keys, "verify", verify)
    assert http.post("/v1/chat/completions", json=ASK).status_code == 200
