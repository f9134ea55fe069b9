"""Score answers by reward programs: `python -m align.program_job RUNDIR`.

Reads job.json (a ProgramJob), programs.jsonl and items.jsonl. Rubrics are asked first
(`align.rubric`), then each program runs in a sandbox. A bad program is an invalid row and never a
failed job; a machine that cannot wall programs in is a failed job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from align import climbing, jobs, judging, ladder, programs, rubric, run, walls
from align.climbing import Answer, Climb
from align.judge_jobs import (
    PROGRAM_ITEMS,
    PROGRAM_SCORES,
    PROGRAMS,
    PROGRAMS_CHECKED,
    ProgramCheckedRow,
    ProgramItemRow,
    ProgramJob,
    ProgramScoreRow,
)
from align.programs import RewardProgram
from align.rows import Message
from align.sandbox import Sandbox, WalledSandbox

MOST = 8  # programs that run at a time
WAKE = 0.2  # seconds between looks at whether the job was told to stop


def work(attempt: run.Run) -> dict[str, Any]:
    """Raises ValueError for a job that cannot work, and where programs cannot be walled in."""
    job = attempt.job
    if not isinstance(job, ProgramJob):
        raise ValueError(f"align.program_job does programs jobs, not {job.kind} jobs")
    started = time.monotonic()
    wanted = _programs(attempt)
    items = _items(attempt)
    with walls.standing() as wall:  # before anybody is paid for a rubric
        warnings = [*([wall.warning] if wall.warning else []), *walls.belts()]
        for warning in warnings:
            attempt.log(warning)
        judged = rubric.ask(attempt, job, [one for one in wanted.values() if _asks(one)], items)
        climbs = dict(_climbs(attempt, job, wanted, items, judged.levels, wall))
    return _write(attempt, wanted, items, judged.levels, climbs) | {
        **judged.spent,
        "walls": "bubblewrap" if wall.bwrap else "limits only",
        "warnings": warnings,
        "seconds": round(time.monotonic() - started, 3),
    }


def _climbs(
    attempt: run.Run,
    job: ProgramJob,
    wanted: Mapping[str, RewardProgram],
    items: Sequence[ProgramItemRow],
    levels: rubric.Levels,
    wall: walls.Walls,
) -> Iterator[tuple[str, Climb]]:
    """Of each program, in no order; as many at a time as there are cores."""
    at_once = max(1, min(MOST, len(os.sched_getaffinity(0)), len(wanted)))
    every = [WalledSandbox(wall, seconds=job.seconds) for _ in range(2 * at_once)]
    pairs: SimpleQueue[tuple[Sandbox, Sandbox]] = SimpleQueue()
    for place in range(at_once):
        pairs.put((every[2 * place], every[2 * place + 1]))

    def one(name: str) -> tuple[str, Climb]:
        program = wanted[name]
        pool = answers(items, program, levels)
        first, second = pairs.get()
        try:
            if job.check:
                return name, climbing.climb(program, pool, first, second)
            return name, climbing.score(program, pool, first)
        finally:
            pairs.put((first, second))

    # Closed before the threads are waited for: whatever still runs then ends at once.
    with ThreadPoolExecutor(at_once) as threads, ExitStack() as closing:
        for box in every:
            closing.callback(box.close)
        closing.callback(threads.shutdown, wait=False, cancel_futures=True)
        waiting = {threads.submit(one, name) for name in wanted}
        while waiting:
            attempt.check()
            finished, waiting = wait(waiting, timeout=WAKE)
            yield from (future.result() for future in finished)
            attempt.progress(len(wanted) - len(waiting), len(wanted), "programs")


def answers(
    items: Sequence[ProgramItemRow], program: RewardProgram, levels: rubric.Levels
) -> list[Answer]:
    """The pool as a program sees it."""
    rubric_hash = rubric.sha256(program) if program.rubric else ""
    unknown = {one.id: None for one in program.rubric}
    return [
        Answer(
            id=item["id"],
            prompt=prompt_text(item["messages"]),
            response=item["text"],
            tokens=item["tokens"],
            turns=sum(one["role"] == "user" for one in item["messages"]),
            judge=levels.get((rubric_hash, item["id"]), unknown),
        )
        for item in items
    ]


def prompt_text(messages: Sequence[Message]) -> str:
    """What `prompt` is: the question, or the whole conversation where there is more of it."""
    return messages[0]["content"] if len(messages) == 1 else judging.transcript(messages)


def _asks(program: RewardProgram) -> bool:
    """Whether a program's rubric is worth asking: not of one that falls without being run."""
    return bool(program.rubric) and not ladder.check(program)


def _write(
    attempt: run.Run,
    wanted: Mapping[str, RewardProgram],
    items: Sequence[ProgramItemRow],
    levels: rubric.Levels,
    climbs: Mapping[str, Climb],
) -> dict[str, Any]:
    rows = _score_rows(wanted, items, levels, climbs)
    jobs.write_rows(attempt.folder / PROGRAM_SCORES, rows)
    jobs.write_rows(
        attempt.folder / PROGRAMS_CHECKED,
        (
            ProgramCheckedRow(
                program=name,
                valid=climbs[name].valid,
                problems=list(climbs[name].problems),
                rung=climbs[name].rung,
                milliseconds=climbs[name].milliseconds,
            )
            for name in wanted
        ),
    )
    scored = sum(one.total is not None for climb in climbs.values() for one in climb.outcomes)
    return {
        "programs": len(wanted),
        "valid": sum(climb.valid for climb in climbs.values()),
        "items": len(items),
        "scores": scored,
    }


def _score_rows(
    wanted: Mapping[str, RewardProgram],
    items: Sequence[ProgramItemRow],
    levels: rubric.Levels,
    climbs: Mapping[str, Climb],
) -> Iterator[ProgramScoreRow]:
    for name, program in wanted.items():
        known = answers(items, program, levels)
        for item, answer, outcome in zip(items, known, climbs[name].outcomes, strict=True):
            yield ProgramScoreRow(
                program=name,
                item=item["id"],
                total=outcome.total,
                components=dict(outcome.components),
                judge=dict(answer.judge),
                error=outcome.error or "",
            )


def _programs(attempt: run.Run) -> dict[str, RewardProgram]:
    """Raises ValueError for two programs of one id, and for what is no program at all."""
    found: dict[str, RewardProgram] = {}
    for row in jobs.read_rows(attempt.folder / PROGRAMS):
        if row["id"] in found:
            raise ValueError(f"two programs have the id {row['id']}")
        try:
            found[row["id"]] = programs.from_json(row["program"])
        except (TypeError, AttributeError) as error:
            raise ValueError(f"program {row['id']} is none: {error}") from None
    return found


def _items(attempt: run.Run) -> list[ProgramItemRow]:
    rows = [
        ProgramItemRow(
            id=row["id"], messages=row["messages"], text=row["text"], tokens=row["tokens"]
        )
        for row in jobs.read_rows(attempt.folder / PROGRAM_ITEMS)
    ]
    if len({row["id"] for row in rows}) != len(rows):
        raise ValueError("two items have the same id")
    return rows


if __name__ == "__main__":
    run.main(work)
