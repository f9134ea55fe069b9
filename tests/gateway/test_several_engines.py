"""Two engines behind one gateway: one may die under load, and comes back when it is ready."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline.gateway.balance import Engines
from plumbline.policies import engines, serving
from plumbline.policies.models import Policy
from tests.engines import EngineProcess

pytestmark = [pytest.mark.timeout(600), pytest.mark.sqlite]
ASK: Any = {
    "model": "current",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 24,
    "temperature": 0,
}


SHORT: Any = {"model": "base", "prompt": "a panda", "max_tokens": 1}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[EngineProcess]]:
    two = [EngineProcess(tmp_path / f"engine{number}.log") for number in range(2)]
    for one in two:
        one.start()
    yield two
    for one in two:
        one.kill()


@pytest.fixture
def http(start_gateway: Any, pair: list[EngineProcess], secret: str) -> Iterator[httpx.Client]:
    url = start_gateway(" , ".join(one.url + "/" for one in pair)).url
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=120) as client:
        yield client


@dataclass
class Crowd:
    """Clients that ask without a pause, every other one for streams."""

    http: httpx.Client
    whole: int = 0
    streamed: int = 0
    broken: list[list[str]] = field(default_factory=list)  # streams that ended in an error
    refused: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, number: int) -> None:
        while not self.over.is_set():
            reply = self.http.post("/v1/chat/completions", json={**ASK, "stream": number % 2 == 0})
            if reply.status_code != 200:
                self.refused.append(f"{reply.status_code} {reply.text}")
            elif number % 2:
                self.whole += 1
            else:
                events = reply.text.strip().split("\n\n")
                if events[-1] == "data: [DONE]":
                    self.streamed += 1
                else:
                    self.broken.append(events)


def figures(http: httpx.Client, name: str) -> dict[str, float]:
    """A metric by engine."""
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(name + "{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_of_two_engines_dies_under_load_and_only_begun_streams_break(
    http: httpx.Client,
    pair: list[EngineProcess],
    make_adapter: Callable[..., Policy],
    promote: Callable[[Any], Any],
) -> None:
    policy = make_adapter(61, 0.5)
    promote(policy)
    assert all(policy.name in engines.cards(one.url) for one in pair)
    crowd = Crowd(http)
    clients = [threading.Thread(target=crowd.ask, args=[number]) for number in range(8)]
    for client in clients:
        client.start()
    under_way = "plumbline_engine_requests"
    until(lambda: min(figures(http, under_way).values()) >= 2 and crowd.whole and crowd.streamed)
    pair[0].kill()
    before = crowd.whole, crowd.streamed
    until(lambda: crowd.whole > before[0] + 8 and crowd.streamed > before[1] + 8)
    assert figures(http, "plumbline_engine_healthy") == {pair[0].url: 0, pair[1].url: 1}
    crowd.over.set()
    for client in clients:
        client.join()
    assert crowd.refused == []
    for events in crowd.broken:
        assert len(events) > 1  # it had begun
        assert "stopped in the middle" in json.loads(events[-1][6:])["error"]["message"]
    assert len(crowd.broken) <= 4  # those clients' that stream


def test_an_engine_that_comes_back_is_given_the_policies_before_requests(
    http: httpx.Client,
    pair: list[EngineProcess],
    make_adapter: Callable[..., Policy],
    promote: Callable[[Any], Any],
) -> None:
    first, second = make_adapter(62), make_adapter(63)
    promote(first)
    pair[1].kill()
    assert http.post("/v1/chat/completions", json=ASK).status_code == 200
    promote(second)  # by the engine that is there
    until(lambda: figures(http, "plumbline_engine_healthy")[pair[1].url] == 0)
    pair[1].start()
    until(lambda: figures(http, "plumbline_engine_healthy")[pair[1].url] == 1)
    for _ in range(4):
        reply = http.post("/v1/chat/completions", json=ASK)
        assert reply.json()["model"] == second.name
    assert set(engines.cards(pair[1].url)) == {"base"}  # nobody was sent there
    assert sorted(serving.reconcile()) == sorted([first.name, second.name])
    assert {first.name, second.name} <= set(engines.cards(pair[1].url))
    pair[0].kill()
    reply = http.post("/v1/chat/completions", json=ASK)
    assert reply.json()["model"] == second.name


def test_requests_go_to_the_engine_that_has_least_to_do(
    pair: list[EngineProcess], settings: Any
) -> None:
    settings.ENGINE_URL = ",".join(one.url for one in pair)
    before = counted(pair)

    async def scene() -> None:
        every = Engines()
        with every.members[0].busy():
            for _ in range(3):
                await every.whole("/v1/completions", SHORT)
        with every.members[1].busy(), every.members[1].busy():
            await every.whole("/v1/completions", SHORT)
        await every.close()

    asyncio.run(scene())
    after = counted(pair)
    assert [after[one.url] - before[one.url] for one in pair] == [1, 3]


def counted(pair: list[EngineProcess]) -> dict[str, float]:
    """Tokens that each engine has generated."""
    texts = {one.url: httpx.get(one.url + "/metrics", trust_env=False).text for one in pair}
    return {url: float(text.split()[-1]) for url, text in texts.items()}


def test_a_policy_that_was_unloaded_is_loaded_again_for_who_names_it(
    http: httpx.Client, pair: list[EngineProcess], make_adapter: Any, promote: Any
) -> None:
    old, *rest = [make_adapter(seed) for seed in (64, 65, 66)]
    promote(old)
    said = http.post("/v1/chat/completions", json=ASK).json()["choices"][0]["message"]["content"]
    for policy in rest:
        promote(policy)
    assert serving.retire() == [old.name]
    assert serving.retire(keep=[old]) == []
    assert not any(old.name in engines.cards(one.url) for one in pair)
    reply = http.post("/v1/chat/completions", json={**ASK, "model": old.name})
    assert reply.json()["model"] == old.name
    assert reply.json()["choices"][0]["message"]["content"] == said
    assert serving.retire(keep=[old]) == []
    assert serving.retire() == [old.name]
