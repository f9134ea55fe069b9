"""`manage.py demo`, which `make demo` runs: the whole platform on one machine, with raters.

Starts every process, makes the demo project, shows how its experiment goes, and stops all of it on
Ctrl-C. Everything is kept under PLUMBLINE_HOME; starting again goes on from there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection
from django.urls import reverse
from sesame.utils import get_query_string

from plumbline.accounts.models import User
from plumbline.demo import seed
from plumbline.demo.processes import PortBusy, check_port, stop_all
from plumbline.demo.stack import Missing, Stack, answers, check_base, healthy
from plumbline.demo.status import Status
from plumbline.demo.verdict import verdict
from plumbline.loop.models import Experiment, Stage

START_SECONDS = 300.0
RATER_PAUSE = "0.05"  # seconds a vote, so that one can watch; none with --once

# Options that every process must agree on travel as environment, where settings read them.
SHARED = {
    "port": "PORT",
    "gateway_port": "GATEWAY_PORT",
    "engine_port": "ENGINE_PORT",
    "engine": "ENGINE",
    "base": "BASE_MODEL",
}


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


class Command(BaseCommand):
    help = "Run everything on this machine, with simulated raters, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT, help="of the pages")
        parser.add_argument("--gateway-port", type=int, default=settings.GATEWAY_PORT)
        parser.add_argument("--engine-port", type=int, default=settings.ENGINE_PORT)
        parser.add_argument("--engine", choices=("transformers", "vllm"), default=settings.ENGINE)
        parser.add_argument("--base", default=settings.BASE_MODEL, help="a local model folder")
        parser.add_argument("--once", action="store_true", help="run the experiment, judge, exit")
        parser.add_argument("--reset", action="store_true", help="remove all the demo has made")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["reset"]:
            self._reset()
            return
        self._share(options)
        try:
            check_base(Path(settings.BASE_MODEL))
            for option in ("PORT", "GATEWAY_PORT", "ENGINE_PORT", "SCORER_PORT"):
                check_port(getattr(settings, option), option)
        except (PortBusy, Missing) as error:
            raise CommandError(str(error)) from error
        with _sole_use(settings.HOME):
            passed = Demo(once=options["once"]).run()
        if not passed:
            sys.exit(1)

    def _share(self, options: dict[str, Any]) -> None:
        """Start over with the options as environment, unless they are there already."""
        options["base"] = str(Path(options["base"]).resolve())
        wanted = {name: str(options[option]) for option, name in SHARED.items()}
        now = {name: str(getattr(settings, name)) for name in SHARED.values()}
        if wanted != now:
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)

    def _reset(self) -> None:
        if not settings.HOME.is_dir():
            raise CommandError(f"There is nothing at {settings.HOME}.")
        asked = f"Remove {settings.HOME} with its database, runs and models? Type yes: "
        if input(asked).strip() == "yes":
            with _sole_use(settings.HOME):
                shutil.rmtree(settings.HOME)
            self.stdout.write("Removed.")


class Demo:
    """One run of the demo, from the first process to the last."""

    def __init__(self, once: bool) -> None:
        self._once = once
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._stack = Stack(self.say)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stopping.set())

    def say(self, text: str) -> None:
        wipe = "\r\033[K" if sys.stdout.isatty() else ""  # the live line
        print(f"{wipe}{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def run(self) -> bool:
        """True unless --once was asked for and the policy did not beat the base."""
        try:
            self._start()
            experiment = self._seed()
            return self._follow(experiment)
        except Stopped:
            self.say("Stopping. `make demo` goes on from here.")
            return not self._once
        except Missing as error:
            raise CommandError(str(error)) from error
        finally:
            stop_all(self._stack.processes)

    def _start(self) -> None:
        """From nothing to a page that answers."""
        self.say(f"Everything is kept in {settings.HOME}, logs in its folder `logs`.")
        stack = self._stack
        stack.redis()
        self.say("Preparing the database")
        call_command("migrate", verbosity=0, interactive=False)
        self.say(f"Starting the engine ({settings.ENGINE}), the pages and the gateway")
        stack.engine()
        stack.web()
        stack.gateway()
        if settings.SCORER_PORT:
            stack.scorer()
        demo = seed.project()
        self._wait("the pages", lambda: healthy(settings.PORT, "/health/"))
        site = f"http://127.0.0.1:{settings.PORT}"
        self.say(f"The pages answer at {site}. Sign in as")
        for name, role in seed.PEOPLE.items():
            query = get_query_string(User.objects.get(username=name))
            self.say(f"  {name:<5} {role.label:<11} {site}{reverse('sign-in-link')}{query}")
        secret = seed.api_key(demo)
        base_url = f"http://127.0.0.1:{settings.GATEWAY_PORT}/v1"
        shown = secret or "shown at the first start; make another one on the page of keys"
        self.say(f"  OpenAI clients: base_url {base_url}, model `current`, key {shown}")

    def _seed(self) -> Experiment | None:
        """What needs the engine; then everything that moves rounds."""
        demo = seed.project()
        questions = seed.prompt_set(demo)
        self._wait("the engine", lambda: healthy(settings.ENGINE_PORT, "/health"))
        seed.deployment(demo)
        seed.live(demo, questions)
        if not self._once:
            seed.evolution(demo, questions)
        experiment = seed.experiment(demo, questions) if self._wants_experiment() else None
        for queue in ("cpu", "gpu"):
            self._stack.command(f"worker-{queue}", "worker", queue)
        self._stack.command("loop", "runloop")
        pause = "0" if self._once else RATER_PAUSE
        self._stack.command("raters", "raters", "--pause", pause)
        self._wait("the gateway", lambda: answers(settings.GATEWAY_PORT, "/v1/models"))
        self.say("Everything runs. Ctrl-C stops it.")
        return experiment

    def _wants_experiment(self) -> bool:
        """With a base of one's own, what to run is up to the researcher."""
        shipped = Path(settings.BASE_MODEL) == settings.ROOT / "workers/align/demo/base"
        return shipped or self._once

    def _follow(self, experiment: Experiment | None) -> bool:
        """Until Ctrl-C; with --once, until the experiment is over and judged."""
        status = Status(experiment) if experiment else None
        while True:
            self._pause()
            if status is None or experiment is None:
                continue
            try:
                status.look()
            except OperationalError as error:
                self.say(f"no look at the database this time: {error}")
                connection.close()
                continue
            if self._once and _is_over(experiment):
                return self._judge(experiment)

    def _judge(self, experiment: Experiment) -> bool:
        self.say("Comparing the served policy with the base on all held-out prompts")
        found = verdict(experiment)
        stop_all(self._stack.processes)
        print(json.dumps(found), flush=True)
        return bool(found["low"] > 0.5)

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        said = False
        while not ready():
            if not said:
                self.say(f"Waiting for {what}")
                said = True
            if time.monotonic() > deadline:
                raise CommandError(f"{what} did not answer in {START_SECONDS:g} s; see the logs.")
            self._pause(0.1)

    def _pause(self, seconds: float = 0.5) -> None:
        """Wait, seeing to it that every process lives. Raises Stopped."""
        if self._stopping.wait(seconds):
            raise Stopped
        self._stack.watch()


class _sole_use:
    """Holds PLUMBLINE_HOME for this demo: two in one home would fight over everything."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._lock: TextIO = (home / "demo.lock").open("a")

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"A demo already runs in {settings.HOME}; stop it, or choose another folder with "
                "PLUMBLINE_HOME=."
            ) from None

    def __exit__(self, *error: object) -> None:
        self._lock.close()


def _is_over(experiment: Experiment) -> bool:
    experiment.refresh_from_db()
    if experiment.state == Experiment.State.FINISHED:
        return True
    last = experiment.rounds.order_by("number").last()
    if last is not None and last.stage in (Stage.FAILED, Stage.CANCELLED):
        raise CommandError(f"{last} did not end well: {last.error}")
    return False
