"""`make bench NAME=push`: new full weights of 125M live, while clients keep asking.

The product's own parts: an engine process, the gateway in front of it, and `serving.promote`, which
verifies the weights, has them loaded beside the old ones, hears a word from them and moves the
alias. Clients ask for the alias through the gateway all the while. `failed` counts requests that
were not answered, `stale` requests sent after a push had returned and answered by the policy
before; both must be 0. `seconds` is the median of the pushes, its goal one second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench.speed import cases, contest, engine, shapes
from tests.ports import free_port

GOAL = 1.0  # seconds
CLIENTS = 4
ASK: dict[str, Any] = {
    "model": "current",
    "messages": [{"role": "user", "content": "w9 w10 w11"}],
    "max_tokens": 4,
}


@dataclass
class Crowd:
    """Clients that ask again and again: when each request was sent, and who answered it."""

    url: str
    key: str
    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        with httpx.Client(trust_env=False, timeout=120, headers=headers) as client:
            while not self.over.is_set():
                sent = time.monotonic()
                try:
                    reply = client.post(self.url + "/v1/chat/completions", json=ASK)
                    self.answers.append((sent, reply.raise_for_status().json()["model"]))
                except httpx.HTTPError as error:
                    self.failures.append(str(error))

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        clients = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self.over.set()
            for client in clients:
                client.join()


@contextlib.contextmanager
def gateway(scratch: Path, environment: dict[str, str]) -> Iterator[str]:
    """The gateway's URL."""
    from align.tether import tethered

    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port", str(port)]
    with (scratch / "gateway.log").open("wb") as out:
        process = subprocess.Popen(
            tethered(*command, "plumbline.gateway.asgi:application", by=signal.SIGTERM),
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + engine.PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url + "/health", trust_env=False).is_success:
                    break
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def weights(base: str, folder: Path, count: int) -> list[Path]:
    """Committed folders of full weights as training leaves them, each a little different."""
    import torch

    from align.gpu import checkpoint, model

    policy = model.load(model.ModelRef(base=base), full=True, precision="fp32")
    made = []
    for number in range(count):
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.mul_(1.001)
        path = folder / f"weights-{number}"
        checkpoint.commit(path, lambda stray: model.save(policy, stray))
        made.append(path)
    return made


def pushes(base: str, folders: Sequence[Path], scratch: Path, context: int) -> dict[str, Any]:
    """Every folder pushed once, under the eyes of the crowd."""
    with engine.running(base, context, scratch, None) as served:
        environment = {
            "PLUMBLINE_HOME": str(scratch / "home"),
            "ENGINE_URL": served.url,
            "BASE_MODEL": base,
            "BASE_NAME": "base",
            "MAX_MODEL_LEN": str(context),
            "DJANGO_SETTINGS_MODULE": "plumbline.settings",
        }
        os.environ.update(environment)
        import django

        django.setup()
        project, user, secret = _platform()
        from plumbline.policies import serving

        serving.PROBE = ASK["messages"]  # the words that this model's tokenizer knows
        first = serving.base_policy(project)
        serving.promote(project, first, actor=user, reason="start", evidence={})
        with gateway(scratch, environment) as url:
            crowd = Crowd(url, secret)
            taken, stale = [], 0
            with crowd.asking():
                for policy in [_policy(project, base, path) for path in folders]:
                    time.sleep(2.0)
                    begun, cpu = time.monotonic(), served.cpu() + time.process_time()
                    serving.promote(project, policy, actor=user, reason="push", evidence={})
                    live = time.monotonic()
                    taken.append((live - begun, served.cpu() + time.process_time() - cpu))
                    time.sleep(2.0)
                    late = [name for sent, name in crowd.answers if sent > live]
                    stale += sum(name != policy.name for name in late)
        return {
            "seconds": contest.spread([wall for wall, _ in taken]),
            "cpu_seconds": contest.spread([cpu for _, cpu in taken]),
            "answered": len(crowd.answers),
            "failed": len(crowd.failures),
            "failures": crowd.failures[:3],
            "stale": stale,
            "named": sorted({name for _, name in crowd.answers}),
        }


def _platform() -> tuple[Any, Any, str]:
    """A database of its own with a project, its researcher and a key."""
    from django.core.management import call_command

    from plumbline.accounts import keys
    from plumbline.accounts.models import Project, User

    call_command("migrate", verbosity=0)
    project = Project.objects.create(name="Bench", slug="bench")
    user = User.objects.create_user(username="bench")
    return project, user, keys.create(project, "crowd", ["infer"], user)[1]


def _policy(project: Any, base: str, path: Path) -> Any:
    from plumbline.policies.manifest import MANIFEST
    from plumbline.policies.models import Policy

    return Policy.objects.create(
        project=project,
        name=f"bench-{path.name}",
        weights=Policy.Weights.FULL,
        base_model=base,
        path=str(path),
        sha256=json.loads((path / MANIFEST).read_text())["sha256"],
    )


def main(arguments: Sequence[str]) -> None:
    asking = cases.parser("push", __doc__)
    asking.add_argument("--shape", choices=shapes.SHAPES, default="m125")
    asked = cases.read(asking, arguments)
    started, machine = time.monotonic(), contest.machine(asked.threads)
    base = str(shapes.build(shapes.SHAPES[asked.shape], asked.folder))
    rounds = asked.rounds or (2 if asked.quick else 5)
    with tempfile.TemporaryDirectory(prefix="push-", dir=asked.folder) as name:
        scratch = Path(name)
        (scratch / "home").mkdir()
        found = pushes(base, weights(base, scratch, rounds), scratch, 512)
    took = found["seconds"]["median"]
    print(
        json.dumps(
            {
                "bench": "push",
                "ratio": contest.significant(GOAL / took),
                "of": "a second over the seconds until new full weights are live",
                "goal": 1.0,
                "met": took <= GOAL and not found["failed"] and not found["stale"],
                **found,
                "shape": asked.shape,
                "clients": CLIENTS,
                "rounds": rounds,
                "machine": machine,
                "seconds_in_all": round(time.monotonic() - started),
            }
        )
    )
