"""Score answers by reward programs: `python -m align.program_job RUNDIR`.

Reads job.json (a ProgramJob), programs.jsonl and items.jsonl. Programs that can be read and run
have their rubrics asked (`align.rubric_scores`); then each scores the items in sandboxes of its
own. A bad program is an invalid row and never a failed job; a machine that cannot wall programs in
is a failed job.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

from align import climbing, jobs, judging, programs, rubric, rubric_scores, run, walls
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
from align.rubric_scores import Judged
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
    with walls.standing() as wall:
        warnings = [*([wall.warning] if wall.warning else []), *walls.belts()]
        for warning in warnings:
            attempt.log(warning)
        smoked: dict[str, Climb] = {}
        if job.check:  # before anybody is paid for a rubric
            smoked = _each(
                attempt, job, wall, wanted, lambda name, box, _: climbing.smoke(wanted[name], box)
            )
        asking = [one for name, one in wanted.items() if _asks(one, smoked.get(name))]
        judged = rubric_scores.ask(attempt, job, asking, items)

        def climb(name: str, first: Sandbox, second: Sandbox) -> Climb:
            pool = answers(items, wanted[name], judged)
            if not job.check:
                return climbing.score(wanted[name], pool, first)
            return climbing.climb(wanted[name], pool, first, second, smoked[name])

        climbs = _each(attempt, job, wall, wanted, climb)
    return _write(attempt, wanted, items, judged, climbs) | {
        **judged.told,
        "walls": "bubblewrap" if wall.bwrap else "limits only",
        "warnings": warnings,
        "seconds": round(time.monotonic() - started, 3),
    }


def _each(
    attempt: run.Run,
    job: ProgramJob,
    wall: walls.Walls,
    names: Collection[str],
    climb: Callable[[str, Sandbox, Sandbox], Climb],
) -> dict[str, Climb]:
    """Of each program, as many at a time as there are cores, each in sandboxes of its own: a
    program that took one over would find no other there."""
    at_once = max(1, min(MOST, len(os.sched_getaffinity(0)), len(names)))
    boxes = {name: [WalledSandbox(wall, seconds=job.seconds) for _ in "12"] for name in names}

    def one(name: str) -> tuple[str, Climb]:
        first, second = boxes[name]
        with first, second:
            return name, climb(name, first, second)

    found: dict[str, Climb] = {}
    with ThreadPoolExecutor(at_once) as threads, ExitStack() as closing:
        # Stopped before the threads are waited for, so whatever still runs ends at once.
        for box in itertools.chain.from_iterable(boxes.values()):
            closing.callback(box.stop)
        closing.callback(threads.shutdown, wait=False, cancel_futures=True)
        waiting = {threads.submit(one, name) for name in names}
        while waiting:
            attempt.check()
            finished, waiting = wait(waiting, timeout=WAKE)
            found.update(future.result() for future in finished)
            attempt.progress(len(found), len(names), "programs")
    return found


def answers(
    items: Sequence[ProgramItemRow], program: RewardProgram, judged: Judged
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
            judge=judged.levels.get((rubric_hash, item["id"]), unknown),
            unjudged=judged.errors.get((rubric_hash, item["id"]), ""),
        )
        for item in items
    ]


def prompt_text(messages: Sequence[Message]) -> str:
    """What `prompt` is: the question, or the whole conversation where there is more of it."""
    return messages[0]["content"] if len(messages) == 1 else judging.transcript(messages)


def _asks(program: RewardProgram, smoked: Climb | None) -> bool:
    """Whether a program's rubric is worth paying for: not of one that has fallen already."""
    return bool(program.rubric) and (smoked is None or smoked.valid)


def _write(
    attempt: run.Run,
    wanted: Mapping[str, RewardProgram],
    items: Sequence[ProgramItemRow],
    judged: Judged,
    climbs: Mapping[str, Climb],
) -> dict[str, Any]:
    rows = _score_rows(wanted, items, judged, climbs)
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
    judged: Judged,
    climbs: Mapping[str, Climb],
) -> Iterator[ProgramScoreRow]:
    for name, program in wanted.items():
        known = answers(items, program, judged)
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
