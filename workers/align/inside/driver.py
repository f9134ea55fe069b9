"""Runs programs in monty, behind the walls: `python -m align.inside.driver MONTY SECONDS MEMORY`.

Reads one request a line and answers each with one line, both JSON. Every answer is scored in an
interpreter of its own, so nothing that a program keeps, patches or counts reaches the next answer.
What it says here is checked again by `align.sandbox`, which trusts nothing that comes out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pydantic_monty as monty

from align.inside import confine, guard
from align.inside.bounds import SAID, read

CALL = "compute_reward(_prompt, _response, _judge, _meta)"
# Clock, sleep and entropy are asked for from outside the interpreter, as are files; none is given.
ASKED = monty.OSPolicy(datetime="call_host", random_start="call_host", sleep="call_host")
PRINTED = 1 << 16  # bytes that one call may print; nobody reads them
DEEP = 200  # calls within calls
ALLOCATED = 500  # answers that a worker scores before another takes its place


class Breach(Exception):
    """The program went beyond a limit; it gets no further call."""


class Driver:
    def __init__(self, pool: monty.Monty, seconds: float, memory: int) -> None:
        self._pool = pool
        self._seconds = seconds
        self._memory = memory
        self._limits = monty.ResourceLimits(
            max_feed_duration_secs=seconds,
            max_turn_duration_secs=seconds,
            max_memory=memory,
            max_recursion_depth=DEEP,
            max_suspensions=1,
            max_total_sleep_secs=0.0,
        )

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """{"turn": the request's, "outcomes": one a case, "breach": why the program was stopped, or
        None}. An outcome is [total, components, None, milliseconds], or [None, {}, error,
        milliseconds]."""
        outcomes, breach = self._outcomes(request["code"], request["cases"])
        return {"turn": request["turn"], "outcomes": outcomes, "breach": breach}

    def _outcomes(
        self, code: str, cases: Sequence[Mapping[str, Any]]
    ) -> tuple[list[list[Any]], str | None]:
        try:
            text, lines = guard.rewrite(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return [], f"cannot be read: {_cut(error)}"
        outcomes: list[list[Any]] = []
        for case in cases:
            started = time.perf_counter()
            try:
                total, components = read(self._call(text, case))
                outcome: list[Any] = [total, components, None]
            except Breach as breach:
                return [], str(breach)
            except monty.MontyError as error:
                outcome = [None, {}, told(error, lines)]
            except Exception as error:  # also of a result that Python cannot hold
                outcome = [None, {}, _cut(error)]
            outcomes.append([*outcome, round((time.perf_counter() - started) * 1000, 4)])
        return outcomes, None

    def _call(self, text: str, case: Mapping[str, Any]) -> Any:
        asked: list[str] = []

        def refuse(name: str, *_: Any, **__: Any) -> NoReturn:
            asked.append(name)
            raise PermissionError(f"a program may not use {name}")

        try:
            with self._pool.checkout(limits=self._limits, os_policy=ASKED) as session:
                session.feed_run(text, os=refuse, print_callback=monty.CollectString(PRINTED))
                said = session.feed_run(
                    CALL,
                    inputs={f"_{name}": value for name, value in case.items()},
                    os=refuse,
                    print_callback=monty.CollectString(PRINTED),
                )
        except monty.MontyCrashedError as error:
            raise Breach(f"broke the interpreter: {_cut(error)}") from error
        except monty.MontyRuntimeError as error:
            if isinstance(error.exception(), TimeoutError):
                raise Breach(f"computed for longer than {self._seconds:g} s") from error
            if isinstance(error.exception(), MemoryError):
                most = f"{self._memory >> 20} MiB of memory, or printed more than {PRINTED} bytes"
                raise Breach(f"wanted more than {most}") from error
            if asked:
                raise Breach(f"asked for {asked[0]}, which programs may not use") from error
            raise
        if asked:
            raise Breach(f"asked for {asked[0]}, which programs may not use")
        return said


def told(error: monty.MontyError, lines: Mapping[int, int]) -> str:
    """What went wrong, with the line of the program as it was written."""
    frames = error.traceback() if isinstance(error, monty.MontyRuntimeError) else []
    own = [frame for frame in frames if frame.filename == "<python-input-0>"]
    where = f" (line {lines.get(own[-1].line, own[-1].line)})" if own else ""
    return f"{_cut(error)}{where}"


def _cut(error: BaseException) -> str:
    return " ".join(str(error).split())[:SAID] or type(error).__name__


def main() -> None:
    binary, seconds, memory = sys.argv[1:]
    confine.confine(alone=False)
    pool = monty.Monty(
        binary_path=binary,
        max_processes=1,
        max_checkouts_per_worker=ALLOCATED,
        request_timeout=2 * float(seconds) + 1,
    )
    with pool:
        driver = Driver(pool, float(seconds), int(memory))
        for line in sys.stdin:
            print(json.dumps(driver.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
