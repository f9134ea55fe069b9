"""While the engine is lent or its weights change, requests wait in the gateway, in order."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from plumbline.fleet import claims, dispatch, lending
from plumbline.gateway import gate
from plumbline.gateway.directory import Directory
from plumbline.gateway.models import Exchange
from plumbline.policies import engines, serving
from plumbline.policies.models import Deployment, Loan, Reload
from tests.engines import EngineProcess
from tests.ports import free_port

pytestmark = pytest.mark.sqlite

ASK: Any = {
    "model": "current",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
}


@pytest.fixture
def lent(transactional_db: None) -> Callable[[], Loan]:
    """`lent()`: the engine's memory belongs to a job, and every gateway has seen it."""

    def lend() -> Loan:
        loan = Loan.objects.create(job=uuid.uuid4(), epoch=1)
        time.sleep(serving.SEEN_SECONDS)
        return loan

    return lend


@pytest.fixture
def ask(http: httpx.Client) -> Iterator[Callable[..., Future[httpx.Response]]]:
    """`ask(stream=True)`: a client's request, in a thread of its own."""
    with ThreadPoolExecutor(max_workers=8) as clients:

        def send(timeout: float = 60, **more: Any) -> Future[httpx.Response]:
            body = {**ASK, **more}
            return clients.submit(http.post, "/v1/chat/completions", json=body, timeout=timeout)

        yield send
        Loan.objects.all().delete()


def journal(*statuses: int) -> None:
    """Wait until the journal holds these."""
    deadline = time.monotonic() + 10
    while True:
        found = sorted(Exchange.objects.values_list("status", flat=True))
        if found == sorted(statuses):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_requests_wait_even_for_an_engine_that_is_stopped_and_started_again(
    start_gateway: Any, project: Any, secret: str, lent: Callable[[], Loan], tmp_path: Path
) -> None:
    engine = EngineProcess(tmp_path / "engine.log", port=free_port())
    url = start_gateway(engine.url).url
    Deployment.objects.create(project=project, policy=serving.base_policy(project))
    headers = {"authorization": f"Bearer {secret}"}
    loan = lent()
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=290) as client:
        assert client.get("/ready").json()["engine"] == "lent"
        unknown = client.post("/v1/chat/completions", json={**ASK, "model": "nobody"})
        assert unknown.status_code == 404  # at once
        with ThreadPoolExecutor() as clients:
            asked = [
                clients.submit(client.post, "/v1/chat/completions", json={**ASK, "stream": stream})
                for stream in (False, True)
            ]
            try:
                engine.start()
                assert not any(one.done() for one in asked)
                loan.delete()
                whole, streamed = (one.result(timeout=60) for one in asked)
            finally:
                engine.kill()
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"]
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_beyond_the_bound_a_request_is_told_when_to_come_back(
    current: Any, ask: Any, lent: Callable[[], Loan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_WAITING", 2)
    assert ask().result().status_code == 200  # the gateway has just seen that all is well
    loan = lent()
    waiting = [ask(), ask(stream=True)]
    time.sleep(0.5)
    refused = ask().result()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "10"
    assert refused.json()["error"]["code"] == "engine_lent"
    loan.delete()
    assert [one.result().status_code for one in waiting] == [200, 200]
    journal(200, 200, 200, 503)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(
    current: Any, ask: Any, lent: Callable[[], Loan], monkeypatch: Any, stream: bool
) -> None:
    monkeypatch.setattr(gate, "MOST_WAITING", 1)
    loan = lent()
    with pytest.raises(httpx.ReadTimeout):
        ask(timeout=0.5, stream=stream).result()
    journal(499)
    waiting = ask()
    time.sleep(0.3)
    assert not waiting.done()
    loan.delete()
    assert waiting.result().status_code == 200


def test_a_request_that_waited_too_long_is_told_why(
    current: Any, ask: Any, lent: Callable[[], Loan], settings: Any
) -> None:
    settings.ENGINE_WAIT_SECONDS = 1
    lent()
    for stream in (False, True):
        late = ask(stream=stream).result()
        assert late.status_code == 503
        assert "lent to a training job and did not come back within 1 s" in late.text
        assert late.headers["retry-after"] == "10"
    journal(503, 503)


def test_requests_wait_while_weights_change_as_long_as_somebody_is_at_it(
    current: Any, ask: Any, http: httpx.Client, settings: Any
) -> None:
    """Whoever changes them and dies leaves a row, which counts for so long only."""

    def change(seconds: float) -> None:
        Reload.objects.create(until=timezone.now() + timedelta(seconds=seconds))
        time.sleep(serving.SEEN_SECONDS)

    change(60)
    assert http.get("/ready").json()["engine"] == "reloading"
    settings.ENGINE_WAIT_SECONDS = 1
    late = ask().result()
    assert (late.status_code, late.json()["error"]["code"]) == (503, "model_loading")
    assert "taking up another policy's weights and did not come back within 1 s" in late.text
    settings.ENGINE_WAIT_SECONDS = 60
    Reload.objects.all().delete()
    change(1)
    waiting = ask()
    time.sleep(0.3)
    assert not waiting.done()
    assert waiting.result().status_code == 200
    assert Reload.objects.exists()


def test_a_request_that_waited_goes_to_the_policy_of_now(
    current: Any, ask: Any, lent: Callable[[], Loan], make_adapter: Any, engine: Any
) -> None:
    better = make_adapter(41)
    serving.ensure_loaded(better)
    loan = lent()
    waiting = ask()
    time.sleep(0.3)
    Deployment.objects.update(policy=better)
    loan.delete()
    reply = waiting.result()
    assert reply.json()["model"] == reply.headers["x-policy-version"] == better.name


def test_what_waited_goes_on_in_the_order_it_came(lent: Callable[[], Loan]) -> None:
    loan = lent()
    came: list[int] = []

    async def request(line: gate.Gate, number: int) -> None:
        if await line.shut():
            await line.opened()
        came.append(number)

    async def scene() -> None:
        directory = Directory()
        line = gate.Gate(directory)
        asked = []
        for number in range(50):
            asked.append(asyncio.create_task(request(line, number)))
            await asyncio.sleep(0.005)
        assert came == []
        asked[7].cancel()
        await asyncio.to_thread(_end, loan)
        await asyncio.gather(*asked, return_exceptions=True)
        assert not await line.shut()
        await line.close()
        await directory.close()

    asyncio.run(scene())
    assert came == [number for number in range(50) if number != 7]


def test_a_database_that_is_away_keeps_the_line_closed(
    lent: Callable[[], Loan], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Nobody is let through on a guess, and nobody is forgotten."""
    loan = lent()
    settings.ENGINE_WAIT_SECONDS = 5

    async def scene() -> None:
        directory = Directory()
        line = gate.Gate(directory)
        asked = asyncio.create_task(line.opened())
        with monkeypatch.context() as away:

            async def gone() -> bool:
                raise OperationalError("gone")

            away.setattr(directory, "shut", gone)
            await asyncio.to_thread(_end, loan)
            await asyncio.sleep(0.4)
            assert not asked.done()
        await asked
        await line.close()
        await directory.close()

    asyncio.run(scene())


def test_nothing_is_on_its_way_to_an_engine_that_sleeps(
    current: Any, http: httpx.Client, engine: Any, project: Any, settings: Any
) -> None:
    """Clients ask without a pause while a job borrows the memory twice; nobody is refused."""
    from align import jobs

    settings.ENGINE_SLEEPS = True
    spec = jobs.TrainJob(algorithm="dpo", start=jobs.ModelRef(base="-"))
    dispatch.submit(project, spec, "train", {})
    job = claims.claim("gpu", "worker")
    assert job is not None
    over = threading.Event()
    statuses: list[int] = []

    def keep_asking(stream: bool) -> None:
        while not over.is_set():
            reply = http.post("/v1/chat/completions", json={**ASK, "stream": stream})
            statuses.append(reply.status_code)

    clients = [threading.Thread(target=keep_asking, args=[k % 2 == 0]) for k in range(4)]
    for client in clients:
        client.start()
    for _ in range(2):
        before = len(statuses)
        with lending.memory(job):
            assert engines.asleep()
            asked = len(statuses)
            time.sleep(0.5)
            assert httpx.get(engine.url + "/load", trust_env=False).json()["server_load"] == 0
            assert len(statuses) == asked
        assert not Loan.objects.exists()
        deadline = time.monotonic() + 90  # it wakes without a cache, on a busy machine
        while len(statuses) < before + 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(statuses) >= before + 4
    over.set()
    for client in clients:
        client.join(timeout=60)
    assert set(statuses) == {200}


def _end(loan: Loan) -> None:
    loan.delete()
    connection.close()
