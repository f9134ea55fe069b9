"""Keeps an engine alive: `python -m align.keeper --url URL --model NAME -- PROGRAM [ARG..]`.

An engine lives as long as it generates: answering /health proves nothing. One that has ended,
whatever its exit status, or has given no token for `patience` seconds, is killed with all its
children and started again, after a pause that doubles while it keeps failing. Standard library
only, so that it runs in any engine's own environment.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from align.tether import tethered

LOOK_SECONDS = 5.0  # between tokens asked for
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0  # after which a failure counts as the first again
GRACE_SECONDS = 7.0  # from SIGTERM to SIGKILL, when the keeper itself is stopped
TOKENS = "vllm:generation_tokens_total"  # both engines count what they generate under this name


@dataclass
class Keeper:
    """One engine as a child process. `look` does the next thing and returns soon, unless it waits
    for a token; call it again and again. `back` is called after each start, once it generates."""

    command: Sequence[str]
    url: str
    model: str  # the base's name, which it serves from its start
    say: Callable[[str], None]
    back: Callable[[], None] = lambda: None
    patience: float = 60.0  # seconds without a token
    start_patience: float = 900.0  # seconds until the first one
    environment: Mapping[str, str] | None = None
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    generates: bool = field(default=False, init=False)
    _started: float = field(default=0.0, init=False)
    _heard: float = field(default=0.0, init=False)  # when it last gave a token
    _pause: float = field(default=1.0, init=False)
    _start_at: float = field(default=0.0, init=False)

    def look(self) -> None:
        if self.child is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return
        status = self.child.poll()
        if status is not None:
            self._fail(f"ended with status {status}")
        elif self._alive():
            self._heard = time.monotonic()
            if not self.generates:
                self.generates = True
                self.say(f"the engine at {self.url} generates")
                self.back()
        elif time.monotonic() - self._heard > (
            self.patience if self.generates else self.start_patience
        ):
            self._fail(f"gave no token for {time.monotonic() - self._heard:.0f} s")

    def stop(self) -> None:
        """SIGTERM to the engine and all its children, later SIGKILL to whoever is left."""
        if self.child is not None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(GRACE_SECONDS)
            self._end()

    def _start(self) -> None:
        self._started = self._heard = time.monotonic()
        self.generates = False
        self.child = subprocess.Popen(
            tethered(*self.command, by=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            env=None if self.environment is None else dict(self.environment),
            start_new_session=True,
        )

    def _fail(self, how: str) -> None:
        self._end()
        if time.monotonic() - self._started > STEADY_SECONDS:
            self._pause = 1.0
        self._start_at = time.monotonic() + self._pause
        self.say(f"the engine at {self.url} {how}; it is started again in {self._pause:g} s")
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def _end(self) -> None:
        assert self.child is not None
        self._signal(signal.SIGKILL)  # also children that have outlived it, with their GPU memory
        self.child.wait()
        self.child = None
        self.generates = False

    def _signal(self, number: signal.Signals) -> None:
        assert self.child is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def _alive(self) -> bool:
        """Whether it gives a token now, or has given others some while ours waited for its turn,
        or sleeps or takes up other weights, as it was told to."""
        if self._sleeps() or self._changes():
            return True
        before = self._generated()
        seconds = min(self.patience, 30.0)
        prompt = {"model": self._serves(), "prompt": "Hello", "max_tokens": 1}
        reply = self._ask("POST", "/v1/completions", seconds, prompt)
        if isinstance(reply, dict) and (reply.get("usage") or {}).get("completion_tokens"):
            return True
        after = self._generated()
        return None not in (before, after) and after != before

    def _sleeps(self) -> bool:
        reply = self._ask("GET", "/is_sleeping", 5.0)
        return isinstance(reply, dict) and bool(reply.get("is_sleeping"))

    def _changes(self) -> bool:
        """It gives up by itself where that takes too long (`align.reloading`)."""
        reply = self._ask("GET", "/v1/weights", 5.0)
        return isinstance(reply, dict) and bool(reply.get("changing"))

    def _serves(self) -> str:
        """The base's name, or that of the weights which have taken its place."""
        reply = self._ask("GET", "/v1/models", 5.0)
        cards = reply.get("data") if isinstance(reply, dict) else None
        names = [str(card["id"]) for card in cards or [] if "id" in card]
        return self.model if self.model in names or not names else names[0]

    def _generated(self) -> float | None:
        """How many tokens it has generated in all, by its own count."""
        text = self._ask("GET", "/metrics", 5.0)
        if not isinstance(text, str):
            return None
        lines = [line.split() for line in text.splitlines() if line.startswith(TOKENS)]
        return sum(float(line[-1]) for line in lines) if lines else None

    def _ask(self, method: str, path: str, seconds: float, body: Any = None) -> Any:
        """A JSON or text answer; None when there is none in time, or it is an error."""
        where = urlsplit(self.url)
        engine = http.client.HTTPConnection(where.hostname or "", where.port, timeout=seconds)
        try:
            headers = {"content-type": "application/json"}
            engine.request(method, path, None if body is None else json.dumps(body), headers)
            reply = engine.getresponse()
            said = reply.read()
            if reply.status != 200:
                return None
            return json.loads(said) if said.startswith(b"{") else said.decode()
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            engine.close()


def keep(keeper: Keeper, stopping: threading.Event, between: float = LOOK_SECONDS) -> None:
    """Look until told to stop; more often while it does not generate."""
    try:
        while not stopping.is_set():
            keeper.look()
            stopping.wait(between if keeper.generates else min(between, 0.2))
    finally:
        keeper.stop()


def stop_on_signals() -> threading.Event:
    """Set by SIGTERM and Ctrl-C."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m align.keeper")
    parser.add_argument("--url", required=True, help="where the engine will listen, from here")
    parser.add_argument("--model", required=True, help="the name it serves its base model by")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds without a token")
    parser.add_argument("command", nargs="+", help="the engine's program and its arguments")
    asked = parser.parse_args(argv)
    keeper = Keeper(
        asked.command,
        asked.url,
        asked.model,
        say=lambda text: print(text, file=sys.stderr, flush=True),
        patience=asked.patience,
    )
    keep(keeper, stop_on_signals())


if __name__ == "__main__":
    main()
