"""`make bench NAME=align`: does it align? Gold win rates after three rounds of noisy votes.

Every arm of `alignment.arms` runs on every seed, and what two of them have in common is computed
once. `ARGS=--ablation` takes the parts out of the shared recipe one by one instead. Progress goes
to stderr; the last line on stdout is the result as JSON. A bench that was stopped goes on where it
was; a finished one is only read again, until its folder is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from tests.bench.alignment import arms, real_text, report, world
from tests.bench.alignment.arms import Arm

ROUNDS, VOTES = 3, 200  # per arm and seed: 600 labels
CYCLIC_VOTES = 600  # a cycle shows in few votes less than a utility does


@dataclass(frozen=True)
class Size:
    """How much is run."""

    seeds: tuple[int, ...]
    heldout: int  # questions the policies are measured on
    methods: tuple[Arm, ...]
    cyclic: tuple[Arm, ...] = ()
    ablation: tuple[Arm, ...] = ()


FULL = Size((1, 2, 3, 4, 5), 180, arms.METHODS, arms.CYCLIC)
QUICK = Size((1,), 60, tuple(replace(arm, prompts=VOTES) for arm in arms.QUICK))
ABLATION = Size((1, 2, 3), 180, (arms.OFFLINE, arms.ONLINE), ablation=arms.ABLATION)


@dataclass(frozen=True)
class Task:
    """One arm on one seed."""

    table: str
    arm: Arm
    seed: int
    heldout: int
    folder: Path


def tasks(size: Size, folder: Path) -> list[Task]:
    """Seed by seed, so that what is there early says something about every arm."""
    tables = {"methods": size.methods, "ablation": size.ablation, "cyclic": size.cyclic}
    return [
        Task(table, arm, seed, size.heldout, folder)
        for seed in size.seeds
        for table, chosen in tables.items()
        for arm in chosen
    ]


def run(task: Task) -> dict[str, Any]:
    """The arm's rounds, measured after each."""
    import torch

    from tests.bench.alignment.measure import Ruler
    from tests.bench.alignment.rounds import Course
    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop

    torch.set_num_threads(1)
    started = time.monotonic()
    workshop = Workshop(task.folder, Sampler(world.BASE.base))
    ruler = Ruler(workshop, world.heldout_questions(task.heldout))
    cyclic = task.table == "cyclic"
    course = Course(
        arm=task.arm,
        seed=task.seed,
        workshop=workshop,
        labeller=world.CYCLE if cyclic else world.LABELLER,
        votes_per_round=CYCLIC_VOTES if cyclic else VOTES,
    )
    rounds = []
    for number in range(1, ROUNDS + 1):
        figures = course.advance()
        look = ruler.measure if number == ROUNDS else ruler.glance
        rounds.append({**figures, **look(course.policy, task.seed)})
    return {
        "table": task.table,
        "arm": task.arm.name,
        "seed": task.seed,
        "labels": course.labels,
        "rounds": rounds,
        "explored": course.explored(),
        "seconds": round(time.monotonic() - started, 1),
    }


def end_with_parent() -> None:
    """A bench that is killed leaves no worker behind."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def everything(todo: Sequence[Task], processes: int) -> Iterable[dict[str, Any]]:
    """All tasks' results as they come, several processes at once."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=end_with_parent) as pool:
        running = {pool.submit(run, task): task for task in todo}
        for count, future in enumerate(as_completed(running), 1):
            found = future.result()
            last = found["rounds"][-1]
            print(
                f"[{count}/{len(todo)}] {found['table']}: {found['arm']}, seed {found['seed']}: "
                f"win rate {last['gold_win_rate']:.3f}, KL {last['kl']:.1f}, "
                f"gap {last['gap']:.3f} ({found['seconds']:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
            yield found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=align", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two arms, one seed, minutes")
    parser.add_argument("--ablation", action="store_true", help="what each part of the recipe buys")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/align"))
    parser.add_argument("--docs", type=Path, help="write the table and the picture here as well")
    asked = parser.parse_args(arguments)
    size = QUICK if asked.quick else ABLATION if asked.ablation else FULL
    started = time.monotonic()
    folder = asked.folder.resolve()
    found = list(everything(tasks(size, folder), processes=max(1, min(4, os.cpu_count() or 1))))
    text = None if asked.ablation else real_text.measure(folder, quick=asked.quick)
    result = report.result(found, text, base=report.base(folder, size.heldout))
    result["seconds"] = round(time.monotonic() - started)
    if asked.docs:
        report.write(asked.docs, result)
    print(json.dumps(report.plain(result)))
