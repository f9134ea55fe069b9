"""Runs reward programs where they can reach nothing: no network, no files, no other process.

Only a job's own process uses this (`align.program_job`); the web process never runs a program.
What runs behind the walls is `align.inside.driver`; whatever comes out of there is read as if the
program itself had written it.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import selectors
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from align import walls
from align.inside.bounds import COMPONENTS, NAME, SAID, TOTAL

SECONDS = 2.0  # that one call may take
MEMORY = 64 << 20  # bytes of the interpreter's heap
AT_ONCE = 32  # cases of one request
SPOKEN = 1 << 18  # bytes that a request may be answered with
START = 30.0  # seconds within which a sandbox answers at all


@dataclass(frozen=True, kw_only=True)
class Case:
    """The arguments of one call of `compute_reward`."""

    prompt: str
    response: str
    judge: Mapping[str, int] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a program said of one case: a total, or the error that it ended with."""

    total: float | None
    components: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    milliseconds: float = 0.0


class Breach(Exception):
    """A program crashed, hung or left its bounds; the message ends "The program ..."."""


class Sandbox(ABC):
    """Where programs run. A context manager; one call at a time."""

    @abstractmethod
    def score(self, code: str, cases: Sequence[Case]) -> list[Outcome]:
        """One outcome a case, in order. Each case is scored as if it were the only one.

        Raises Breach for a program that must not be asked again; the sandbox itself then still
        works for the next one.
        """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WalledSandbox(Sandbox):
    """Monty in a process of its own behind `walls`, started anew after whatever ended it."""

    def __init__(
        self, wall: walls.Walls, *, seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        self._wall = wall
        self._seconds = seconds
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._stopped = False

    def score(self, code: str, cases: Sequence[Case]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for start in range(0, len(cases), AT_ONCE):
            outcomes += self._ask(code, cases[start : start + AT_ONCE])
        return outcomes

    def close(self) -> None:
        self.stop()
        self._end()

    def stop(self) -> None:
        """For good, from another thread: whoever waits for an outcome gets a Breach."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                walls.end(self._process)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def _ask(self, code: str, cases: Sequence[Case]) -> list[Outcome]:
        turn = secrets.token_hex(8)  # so that nothing said beforehand passes for an answer
        request = {"turn": turn, "code": code, "cases": [asdict(case) for case in cases]}
        try:
            line = self._exchange(json.dumps(request).encode() + b"\n", len(cases))
            outcomes, breach = read(line, turn, len(cases))
        except Breach:
            self._end()
            raise
        if breach is not None:
            raise Breach(breach)
        return outcomes

    def _exchange(self, request: bytes, cases: int) -> bytes:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + START + cases * 2 * self._seconds
        return converse(process.stdin, process.stdout, request, deadline)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        with self._starting:
            if self._stopped:
                raise Breach("was stopped with its sandbox")
            if self._process is None:
                self._process = self._wall.start(self._seconds, self._memory)
            return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            walls.kill(process)


def converse(stdin: IO[bytes], stdout: IO[bytes], request: bytes, deadline: float) -> bytes:
    """Write the request and read one line, both at once, so that neither side waits for the other.

    Raises Breach past the deadline, at the end of the stream, or after more than `SPOKEN` bytes.
    """
    said = b""
    left = memoryview(request)
    with selectors.DefaultSelector() as ready:
        for pipe, event in ((stdin, selectors.EVENT_WRITE), (stdout, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            ready.register(pipe, event)
        while not said.endswith(b"\n"):
            for _, event in ready.select(max(0.0, deadline - time.monotonic())):
                if event & selectors.EVENT_WRITE:
                    left = left[_write(stdin, left) :]
                    if not left:
                        ready.unregister(stdin)
                else:
                    part = os.read(stdout.fileno(), 1 << 16)
                    said += part
                    if not part:
                        raise Breach("ended the process that ran it")
                    if len(said) > SPOKEN:
                        raise Breach(f"made its process say more than {SPOKEN} bytes")
            if time.monotonic() > deadline:
                raise Breach("took too long and was killed with the process that ran it")
    return said


def _write(pipe: IO[bytes], data: memoryview) -> int:
    try:
        return os.write(pipe.fileno(), data[: 1 << 16])
    except BrokenPipeError:
        raise Breach("ended the process that ran it") from None


def read(line: bytes, turn: str, cases: int) -> tuple[list[Outcome], str | None]:
    """The outcomes that a sandbox told, and the breach that stopped it. Raises Breach for anything
    that `align.inside.driver` does not say."""
    try:
        said = json.loads(line)
        if said["turn"] != turn:
            raise ValueError("an answer to nothing that was asked")
        breach = said["breach"]
        outcomes = [_outcome(*one) for one in said["outcomes"]]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise Breach("made its process say what it never says") from None
    if breach is None and len(outcomes) == cases:
        return outcomes, None
    if isinstance(breach, str) and breach and len(breach) <= 2 * SAID:
        return [], breach
    raise Breach("made its process say what it never says")


def _outcome(total: Any, components: Any, error: Any, milliseconds: Any) -> Outcome:
    numbers = [milliseconds, *components.values(), *([] if error is not None else [total])]
    for one in numbers:
        if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            raise ValueError("not a finite number")
    if len(components) > COMPONENTS or any(len(name) > NAME for name in components):
        raise ValueError("too many components")
    if error is not None:
        if not isinstance(error, str) or len(error) > 2 * SAID or total is not None:
            raise ValueError("an error is a short text")
        return Outcome(total=None, error=error, milliseconds=float(milliseconds))
    if abs(total) > TOTAL:
        raise ValueError("the total is out of range")
    return Outcome(
        total=float(total),
        components={name: float(value) for name, value in components.items()},
        milliseconds=float(milliseconds),
    )
