"""Under load the embedded engine interleaves, cancels and refuses, and answers stay the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from align import demo
from align.gpu import engine as engines
from align.gpu.answers import Sampling
from align.gpu.engine import Busy, Engine, Ticket
from align.gpu.residents import Residents

RAMBLING = 30.0  # at this temperature an answer hardly ever ends by itself


def load(embedded: Any) -> int:
    return int(httpx.get(embedded.url + "/load").json()["server_load"])


def until(condition: Callable[[], bool], patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def stream(embedded: Any, **body: Any) -> Any:
    fields = {"model": "demo-base", "prompt": "a panda", "stream": True, **body}
    return httpx.stream("POST", embedded.url + "/v1/completions", json=fields, timeout=60)


def test_a_seeded_answer_is_the_same_alone_and_under_load(embedded: Any) -> None:
    ask = {"n": 2, "seed": 42, "max_tokens": 40}
    alone = [
        choice["token_ids"] for choice in embedded.complete(embedded.tokens(), **ask)["choices"]
    ]

    def crowd(k: int) -> list[list[int]]:
        seeded = k % 3 == 0
        settings = ask if seeded else {"max_tokens": 30, "temperature": 2.0}
        prompt = embedded.tokens() if seeded else "Behold " * (k + 1)
        choices = embedded.complete(prompt, **settings)["choices"]
        return [choice["token_ids"] for choice in choices] if seeded else alone

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(crowd, range(24))) == [alone] * 24


def test_unseeded_answers_differ(embedded: Any) -> None:
    answers = {embedded.say() for _ in range(6)}
    assert len(answers) > 1


def test_a_short_request_does_not_wait_for_a_long_one(embedded: Any) -> None:
    with stream(embedded, temperature=RAMBLING, max_tokens=480, seed=1) as long:
        lines = long.iter_lines()
        next(lines)
        assert embedded.complete("a panda", max_tokens=2)["usage"]["completion_tokens"] == 2
        assert load(embedded) == 1


def test_a_client_that_hangs_up_ends_its_generation(embedded: Any) -> None:
    until(lambda: load(embedded) == 0)
    with stream(embedded, temperature=RAMBLING, max_tokens=500, n=16, seed=1) as long:
        lines = long.iter_lines()
        next(lines)
        assert load(embedded) == 1
    until(lambda: load(embedded) == 0, patience=5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            embedded.url + "/v1/completions",
            json={"prompt": "a panda", "temperature": RAMBLING, "max_tokens": 500, "n": 256},
            timeout=0.3,
        )
    until(lambda: load(embedded) == 0, patience=10)


@pytest.fixture
def engine() -> Any:
    engine = Engine(Residents("demo-base", demo.BASE), 512)
    yield engine
    engine.close()


def ticket(engine: Engine, tell: Callable[[Any], None], **sampling: Any) -> Ticket:
    base = engine.call(lambda residents: residents.base).result()
    settings = Sampling(**{"temperature": RAMBLING, "max_tokens": 400, **sampling})
    return Ticket(base, [[2, 3]], settings, watched=True, tell=tell)


def test_beyond_its_capacity_the_engine_is_busy(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CAPACITY", 2)
    waiting = [ticket(engine, lambda news: None, seed=k) for k in range(3)]
    engine.submit(waiting[0])
    engine.submit(waiting[1])
    with pytest.raises(Busy, match="2 requests"):
        engine.submit(waiting[2])
    for one in waiting:
        one.cancelled.set()
    until(lambda: engine.load == 0)
    engine.submit(waiting[2])


def test_more_requests_than_turns_are_all_answered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "RUNNING", 2)
    ended = threading.Semaphore(0)

    def tell(news: Any) -> None:
        assert not isinstance(news, Exception)
        if news[0].finish_reason is not None:
            ended.release()

    for k in range(7):
        engine.submit(ticket(engine, tell, seed=k, max_tokens=5))
    assert all(ended.acquire(timeout=20) for _ in range(7))


def test_one_broken_request_leaves_the_others_alone(engine: Engine) -> None:
    news: list[Any] = []
    broken = ticket(engine, news.append)
    broken.prompts = [[10**6]]  # no such token
    fine = ticket(engine, lambda moved: None, max_tokens=5)
    engine.submit(broken)
    engine.submit(fine)
    until(lambda: engine.load == 0)
    assert isinstance(news[0], Exception)
    assert fine.answers is not None
    assert fine.answers.done


def test_requests_wait_out_the_engine_s_sleep_and_are_answered_the_same(engine: Engine) -> None:
    ends: list[Any] = []

    def ask() -> Ticket:
        base = engine.call(lambda residents: residents.base).result()
        settings = Sampling(temperature=1.0, max_tokens=20, seed=3, n=2)
        one = Ticket(base, [[2, 3, 5]], settings, watched=False, tell=ends.append)
        engine.submit(one)
        return one

    ask()
    until(lambda: len(ends) == 1)
    base = engine.call(lambda residents: residents.base).result()
    waiting = Ticket(base, [[2, 3, 5]], Sampling(max_tokens=20, seed=3, n=2), False, ends.append)
    engine.sleep().result(timeout=20)
    assert engine.sleeping
    assert base.model is None
    engine.submit(waiting)
    late = engine.call(lambda residents: [one.name for one in residents.all()])
    time.sleep(0.1)
    assert not late.done()
    assert len(ends) == 1
    engine.wake().result(timeout=60)
    assert late.result(timeout=20) == ["demo-base"]
    until(lambda: len(ends) == 2)
    assert [draw.tokens for draw in ends[0]] == [draw.tokens for draw in ends[1]]


def test_sleep_waits_for_what_runs_and_waking_first_calls_it_off(engine: Engine) -> None:
    long = ticket(engine, lambda news: None, max_tokens=400)
    engine.submit(long)
    until(lambda: long.answers is not None)
    slept = engine.sleep()
    time.sleep(0.05)
    assert not slept.done()
    engine.wake().result(timeout=20)
    assert slept.done()
    assert not engine.sleeping
    long.cancelled.set()
    until(lambda: engine.load == 0)
