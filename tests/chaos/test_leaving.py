"""Web and gateway told to leave (SIGTERM) in the middle of work: who was let in is served to the
end, who comes later is not let in and comes again, and no vote is lost or counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline.accounts import keys
from plumbline.collect.models import Ballot
from plumbline.policies import serving
from tests.comparisons import open_campaign, shared_db  # noqa: F401  # a fixture
from tests.faulty_engine import FaultyEngine
from tests.ports import free_port

VOTES, PATIENCE = 6, 120.0


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Served:
    """A server's process on a port that stays its own."""

    command: list[str]
    port: int
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, env=os.environ | self.environment, stdout=out, stderr=out
            )
        until(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health/", timeout=5, trust_env=False).status_code < 500
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def leave(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def gone(self, seconds: float = 60) -> int:
        assert self.process is not None
        return self.process.wait(seconds)


@pytest.fixture
def serve(shared_db: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:  # noqa: F811
    """`serve(*command, **environment)`: started; `{port}` is its port."""
    running: list[Served] = []

    def start(*command: str, **environment: str) -> Served:
        port = free_port()
        filled = [sys.executable, *(one.format(port=port) for one in command)]
        environment["DATABASE_URL"] = f"sqlite:///{shared_db}"
        running.append(Served(filled, port, environment, tmp_path / f"{port}.log"))
        running[-1].start()
        return running[-1]

    yield start
    for one in running:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@dataclass(eq=False)
class Voter(threading.Thread):
    """A browser that sends each vote until it is told that it is there."""

    session: str
    url: str
    campaign: int
    taken: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    odd: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        cookies = {"sessionid": self.session, "csrftoken": "c" * 32}
        headers = {"X-CSRFToken": "c" * 32, "Accept": "application/json"}
        self.http = httpx.Client(
            base_url=self.url, cookies=cookies, headers=headers, timeout=60, trust_env=False
        )
        while len(self.taken) < VOTES:
            there = self._claim()
            ballot, key = there.rstrip("/").rpartition("/")[2], str(uuid.uuid4())
            form = {"choice": "A2", "key": key}
            while self._send(f"/p/alpha/ballots/{ballot}/", form, key) is None:
                time.sleep(0.1)
            self.taken.append(key)

    def _claim(self) -> str:
        while True:
            reply = self._send(f"/p/alpha/campaigns/{self.campaign}/claim/", {}, "")
            if reply is not None:
                return str(reply.headers["Location"])
            time.sleep(0.1)

    def _send(self, path: str, form: dict[str, str], key: str) -> httpx.Response | None:
        """The answer; None where there was none, or one that says to come back."""
        try:
            reply = self.http.post(path, data=form)
        except httpx.HTTPError:
            self.unheard.append(key)
            return None
        if reply.status_code == 503 and "Retry-After" in reply.headers:
            self.unheard.append(key)
            return None
        if reply.status_code not in (200, 302, 303):
            self.odd.append((reply.status_code, reply.text[:200]))
        return reply


WEB = (
    *("-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}"),
    *("--workers", "2", "--blocking-threads", "3", "--log-level", "warning"),
    "plumbline.wsgi:application",
)
GATEWAY = (
    *("-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--no-access-log"),
    *("--log-level", "warning", "plumbline.gateway.asgi:application"),
)


def session_of(client_for: Any, user: Any) -> str:
    return str(client_for(user).cookies["sessionid"].value)


def test_web_leaves_under_load_and_no_vote_is_lost_or_doubled(
    shared_db,  # noqa: F811
    project,
    alice,
    bob,
    carol,
    client_for,
    serve,
):
    campaign = open_campaign(project, comparisons=20, overlap=3)
    web = serve(*WEB)
    people = [
        Voter(session_of(client_for, one), web.url, campaign.pk) for one in (alice, bob, carol)
    ]
    for one in people:
        one.start()
    for share in (1, VOTES // 2):
        until(lambda share=share: all(len(one.taken) >= share for one in people))
        web.leave()
        web.gone()
        web.start()
    for one in people:
        one.join(PATIENCE)
    assert [one.odd for one in people] == [[]] * 3
    taken = [key for one in people for key in one.taken]
    assert len(taken) == len(set(taken)) == 3 * VOTES
    stored = Ballot.objects.exclude(outcome="").values_list("idempotency_key", flat=True)
    assert sorted(map(str, stored)) == sorted(taken)


def test_a_vote_that_is_being_stored_when_web_is_told_to_leave_is_answered(
    shared_db,  # noqa: F811
    project,
    bob,
    client_for,
    serve,
    tmp_path,
):
    orders = tmp_path / "orders"
    orders.mkdir()
    campaign = open_campaign(project, comparisons=1)
    web = serve(*WEB, PLUMBLINE_FAILPOINTS=str(orders))
    (orders / "vote.storing").write_text("sleep 3")
    replies: list[Any] = []

    class Once(Voter):
        """One vote, whose answer is kept."""

        def _send(self, path: str, form: dict[str, str], key: str) -> Any:
            replies.append(super()._send(path, form, key))
            if key:
                raise SystemExit
            return replies[-1]

    once = Once(session_of(client_for, bob), web.url, campaign.pk)
    once.start()
    until(lambda: list(orders.glob("vote.storing.*")))
    web.leave()
    once.join(PATIENCE)
    assert replies[-1] is not None, web.log.read_text()
    assert replies[-1].status_code in (200, 303)
    assert Ballot.objects.exclude(outcome="").count() == 1
    web.gone()


def test_streams_that_run_when_the_gateway_is_told_to_leave_run_to_their_end(
    shared_db,  # noqa: F811
    project,
    alice,
    engine,
    settings,
    serve,
):
    settings.ENGINE_URL = engine.url
    serving.promote(project, serving.base_policy(project), actor=alice, reason="test", evidence={})
    _, secret = keys.create(project, "app", ["infer"], alice)
    slow = FaultyEngine(engine.port)
    try:
        gateway = serve(*GATEWAY, ENGINE_URL=slow.url)
        asked = {
            "model": "current",
            "messages": [{"role": "user", "content": "Tell me about Peru."}],
            "stream": True,
            "max_tokens": 40,
        }
        headers = {"authorization": f"Bearer {secret}"}
        began, ends = threading.Barrier(4), []

        def ask() -> None:
            there = f"{gateway.url}/v1/chat/completions"
            with httpx.stream(
                "POST", there, json=asked, headers=headers, timeout=PATIENCE, trust_env=False
            ) as reply:
                lines = reply.iter_lines()
                first = next(lines)
                began.wait(PATIENCE)
                ends.append([line for line in (first, *lines) if line][-1])

        slow.pause = 0.05
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for one in threads:
            one.start()
        began.wait(PATIENCE)
        gateway.leave()
        time.sleep(0.3)
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{gateway.url}/v1/chat/completions", json=asked, trust_env=False)
        for one in threads:
            one.join(PATIENCE)
        assert ends == ["data: [DONE]"] * 3, gateway.log.read_text()
        assert gateway.gone() in (0, -signal.SIGTERM)
    finally:
        slow.close()
