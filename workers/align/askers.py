"""A few askers that share one list of work, stopped together when the job is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from align import run

WAKE = 0.2  # seconds between looks at whether the job was told to stop
UNFIT = (400, 413, 422)  # statuses of a question that the endpoint will not take: a row's trouble

T = TypeVar("T")


async def share(
    attempt: run.Run,
    rows: Sequence[T],
    at_a_time: int,
    ask: Callable[[Iterator[T]], Coroutine[Any, Any, None]],
) -> None:
    """Run `at_a_time` of `ask` over one iterator, until all are done or one fails. Raises
    `run.Stopped` when the job is told to stop."""
    turns = iter(rows)  # shared: each asker takes the next row
    askers = [asyncio.create_task(ask(turns)) for _ in range(min(at_a_time, len(rows)))]
    pending = set(askers)
    try:
        while pending:
            attempt.check()
            done, pending = await asyncio.wait(
                pending, timeout=WAKE, return_when=asyncio.FIRST_COMPLETED
            )
            for asker in done:
                asker.result()
    finally:
        for asker in askers:
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)
