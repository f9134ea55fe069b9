"""The gateway under uvicorn in a thread of the test, before a real engine; keys and policies."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn


@dataclass
class RunningGateway:
    url: str
    server: uvicorn.Server


@pytest.fixture
def start_gateway(
    transactional_db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], RunningGateway]]:
    """`start_gateway(engine_url)`; what it remembers of the database is fresh for 0.1 s only."""
    from plumbline.gateway import directory
    from plumbline.gateway.app import create_app

    monkeypatch.setattr(directory, "FRESH", 0.1)
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(engine_url: str) -> RunningGateway:
        settings.ENGINE_URL = engine_url
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(), log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return RunningGateway(f"http://127.0.0.1:{listener.getsockname()[1]}", server)

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture
def gateway(start_gateway: Callable[[str], RunningGateway], engine: Any) -> RunningGateway:
    return start_gateway(engine.url)


@pytest.fixture
def secret(project: Any, alice: Any) -> str:
    """A key of the project that may query policies."""
    from plumbline.accounts import keys

    return keys.create(project, "app", ["infer"], alice)[1]


@pytest.fixture
def http(gateway: RunningGateway, secret: str) -> Iterator[httpx.Client]:
    """Plain HTTP with the key, for what an SDK does not show."""
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=gateway.url, headers=headers, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def sdk(gateway: RunningGateway, secret: str) -> Any:
    """The unmodified OpenAI SDK."""
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=gateway.url + "/v1", api_key=secret, max_retries=0)


@pytest.fixture
def make_adapter(project: Any, commit_weights: Callable[..., Any]) -> Callable[..., Any]:
    """`make_adapter(seed, scale)`: a policy on disk under a fresh name. At scale 0.5 it babbles
    on without an end, which makes long streams."""
    from plumbline.policies.models import Policy
    from plumbline.policies.serving import base_policy

    def make(seed: int, scale: float = 0.05) -> Policy:
        folder = commit_weights(seed, "lora", scale)
        return Policy.objects.create(
            project=project,
            name=f"alpha-{uuid.uuid4().hex[:8]}",
            weights="lora",
            base_model=base_policy(project).base_model,
            path=str(folder.path),
            sha256=folder.sha256,
        )

    return make


@pytest.fixture
def promote(project: Any) -> Callable[[Any], Any]:
    from plumbline.policies import serving

    def to(policy: Any) -> Any:
        return serving.promote(project, policy, actor=None, reason="test", evidence={})

    return to


@pytest.fixture
def current(gateway: RunningGateway, project: Any, promote: Callable[[Any], Any]) -> Any:
    """The base model, promoted."""
    from plumbline.policies.serving import base_policy

    return promote(base_policy(project)).policy
