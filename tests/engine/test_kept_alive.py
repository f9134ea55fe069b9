"""`manage.py engine` brings an engine back however it ended, with what the aliases point at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from align import keeper as keepers
from tests.gateway.conftest import make_adapter, promote, secret, start_gateway  # noqa: F401
from tests.gateway.test_client import database_url
from tests.ports import free_port

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
ASK: Any = {
    "model": "current",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
    "temperature": 0,
}


@dataclass
class Kept:
    """An engine under its keeper."""

    url: str
    keeper: psutil.Process
    log: Path

    @property
    def engine(self) -> psutil.Process:
        """The engine's process as it is now; waits for it to be there."""
        return until(lambda: next(iter(self.keeper.children()), None), 60)

    def said(self, words: str) -> int:
        return self.log.read_text().count(words)


def until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.fixture
def kept(transactional_db: None, settings: Any, tmp_path: Path) -> Iterator[Kept]:
    settings.ENGINE = "transformers"
    with keeping(settings, tmp_path, ENGINE_SILENCE_SECONDS="4") as running:
        yield running


@contextlib.contextmanager
def keeping(settings: Any, tmp_path: Path, **more: str) -> Iterator[Kept]:
    """`manage.py engine`, with the engine that the settings name."""
    port = free_port()
    log = tmp_path / "log"
    settings.ENGINE_URL = f"http://127.0.0.1:{port}"
    environment = {
        "DATABASE_URL": database_url(),
        "ENGINE": settings.ENGINE,
        "ENGINE_URL": settings.ENGINE_URL,
        **more,
    }
    with log.open("wb") as out:
        keeper = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "engine", "--port", str(port)],
            env=os.environ | environment,
            stderr=out,
        )
    running = Kept(environment["ENGINE_URL"], psutil.Process(keeper.pid), log)
    try:
        until(lambda: running.said("generates"))
        yield running
    finally:
        children = running.keeper.children(recursive=True)
        keeper.terminate()
        assert keeper.wait(30) == 0
        assert not psutil.wait_procs(children, timeout=10)[1]


def test_an_engine_that_was_killed_or_hangs_serves_its_adapters_again(
    kept: Kept,
    start_gateway: Any,  # noqa: F811
    make_adapter: Any,  # noqa: F811
    promote: Any,  # noqa: F811
    secret: str,  # noqa: F811
) -> None:
    """And the gateway asks for patience meanwhile, in so many words."""
    gateway = start_gateway(kept.url)
    policy = make_adapter(51, 0.5)
    promote(policy)
    client = httpx.Client(
        base_url=gateway.url,
        headers={"authorization": f"Bearer {secret}"},
        timeout=120,
        trust_env=False,
    )
    troubles: list[httpx.Response] = []

    def answer() -> str | None:
        reply = client.post("/v1/chat/completions", json=ASK)
        if reply.status_code != 200:
            troubles.append(reply)
            return None
        assert reply.json()["model"] == reply.headers["x-policy-version"] == policy.name
        return str(reply.json()["choices"][0]["message"]["content"])

    with contextlib.closing(client):
        before = answer()
        assert before
        for rounds, blow in enumerate((signal.SIGKILL, signal.SIGSTOP), start=2):
            engine = kept.engine
            engine.send_signal(blow)
            if blow != signal.SIGSTOP:
                engine.wait(30)
                assert answer() is None
            until(lambda rounds=rounds: kept.said("generates") == rounds)
            assert kept.engine.pid != engine.pid
            assert until(answer) == before
    assert kept.said("ended with status -9") == 1
    assert kept.said("gave no token for") == 1
    assert troubles
    assert {reply.status_code for reply in troubles} == {503}
    assert all(reply.headers["retry-after"] for reply in troubles)


@pytest.mark.vllm
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_vllm_that_was_killed_holds_the_alias_s_full_weights_again(
    transactional_db: None,
    settings: Any,
    tmp_path: Path,
    make_policy: Callable[..., Any],
    promote: Any,  # noqa: F811
    vllm: Any,
) -> None:
    """It starts with the base model's, whose name it then has; its keeper and the loop's look give
    it the others, under whose name the keeper finds it alive."""
    from plumbline.policies import engines, serving

    policy = make_policy(61)
    with keeping(settings, tmp_path, BASE_NAME=settings.BASE_NAME) as kept:
        promote(policy)
        said = serving.probe(policy)
        kept.engine.send_signal(signal.SIGKILL)
        until(lambda: kept.said("generates") == 2)
        until(lambda: set(engines.cards(settings.ENGINE_URL)) == {policy.name})
        assert serving.probe(policy) == said
        assert kept.said("ended with status -9") == 1
        settings.ENGINE_URL = vllm.url  # for what the fixture puts right


def test_an_engine_dies_with_a_keeper_that_is_killed() -> None:
    where = ["--url", "http://127.0.0.1:9", "--model", "base"]
    keeper = psutil.Popen([sys.executable, "-m", "align.keeper", *where, "sleep", "600"])
    engine = until(lambda: next((one for one in keeper.children() if one.name() == "sleep"), None))
    keeper.kill()
    keeper.wait()
    engine.wait(30)


@pytest.mark.parametrize(("program", "status"), [("true", 0), ("false", 1)])
def test_an_engine_that_ends_is_started_again_ever_more_rarely(program: str, status: int) -> None:
    """Also one that ends well: vLLM does so when its engine has died."""
    said: list[str] = []
    kept = keepers.Keeper([program], "http://127.0.0.1:9", "base", said.append)
    deadline = time.monotonic() + 60
    while len(said) < 2 and time.monotonic() < deadline:
        kept.look()
        time.sleep(0.02)
    assert [words.partition("; ")[2] for words in said] == [
        "it is started again in 1 s",
        "it is started again in 2 s",
    ]
    assert f"ended with status {status}" in said[0]
