"""The Python client against a gateway in a process of its own, as an app would use it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connections

from plumbline.accounts import keys
from plumbline.client import Plumbline, PlumblineError
from plumbline.gateway.models import ClientComparison, Feedback
from tests.comparisons import shared_db  # noqa: F401  # a fixture
from tests.gateway.clients import named
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ALONE = (
    "import sys; import plumbline.client; "
    "heavy = {'django', 'starlette', 'celery', 'plumbline.settings'} & set(sys.modules); "
    "sys.exit(f'loaded {heavy}' if heavy else 0)"
)


def database_url() -> str:
    found = connections["default"].settings_dict
    if connections["default"].vendor == "sqlite":
        return f"sqlite:///{found['NAME']}"
    host = f"{found['HOST']}:{found['PORT']}" if found["PORT"] else found["HOST"]
    return f"postgresql://{found['USER']}:{found['PASSWORD']}@{host}/{found['NAME']}"


class Process:
    """uvicorn, which may be killed and started again on its port."""

    def __init__(self, database: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**os.environ, "DATABASE_URL": database}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "plumbline.gateway.asgi:application"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), "--log-level", "warning"],
            env=self._environment,
            cwd=ROOT,
        )

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(self.url + "/health", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the gateway did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def process(shared_db: Any) -> Iterator[Process]:  # noqa: F811
    running = Process(database_url())
    running.start()
    running.wait()
    yield running
    running.kill()


@pytest.fixture
def client(process: Process, project: Any, alice: Any) -> Iterator[Plumbline]:
    _, secret = keys.create(project, "app", ["feedback"], alice)
    with Plumbline(process.url + "/v1", secret, retries=8) as made:
        yield made


def test_it_needs_neither_django_nor_anything_else_of_ours() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_says_and_asks_everything_over_a_real_gateway(client: Plumbline, project: Any) -> None:
    about, other = named(project), named(project)
    said = client.feedback(
        about, "thumbs", score=False, correction="Paris.", consent_train=True, end_user="ada"
    )
    assert (said["score"], said["correction"]) == (0, "Paris.")
    assert client.get_feedback(said["id"]) == said
    found = client.compare(
        [{"completion_id": about}, {"completion_id": other}], chosen=1, end_user="ada"
    )
    assert found["tie_groups"] == [[1], [0]]
    assert client.get_comparison(found["id"]) == found
    link = client.link(about, end_user="ada", expires_in=60)
    assert httpx.post(link["url"], json={"key": "copied"}, trust_env=False).status_code == 202
    gone = client.forget("ada")
    assert (gone["feedback"], gone["comparisons"]) == (2, 1)
    assert not Feedback.objects.exists()
    assert not ClientComparison.objects.exists()


def test_what_the_gateway_refuses_is_not_asked_again(client: Plumbline, project: Any) -> None:
    began = time.monotonic()
    with pytest.raises(PlumblineError) as refused:
        client.feedback("chatcmpl-nothing", "thumbs")
    assert (refused.value.status, refused.value.param) == (404, "completion_id")
    assert refused.value.request_id.startswith("req_")
    with pytest.raises(PlumblineError) as refused:
        client.feedback(named(project), "thumbs", correction="Paris.")
    assert (refused.value.status, refused.value.code) == (400, "consent_required")
    assert time.monotonic() - began < 20


def test_feedback_outlives_a_gateway_that_is_killed(
    process: Process, client: Plumbline, project: Any
) -> None:
    name = str(uuid.uuid4())
    about = named(project)
    before = client.feedback(about, "thumbs", score=1, feedback_id=name)
    process.kill()
    process.start()  # it is not up yet
    assert client.feedback(about, "thumbs", score=1, feedback_id=name) == before
    assert Feedback.objects.count() == 1


def test_a_gateway_that_stays_away_is_said_to_be(project: Any, alice: Any) -> None:
    with (
        Plumbline(f"http://127.0.0.1:{free_port()}", "plk_x_y", retries=1) as client,
        pytest.raises(PlumblineError) as away,
    ):
        client.get_feedback("x")
    assert away.value.status == 0
