"""Contests over a training: which shape, in what batches, against which of TRL's settings.

What `train` and `reward` have in common: every side in turn, ratios with their goals, the largest
difference of loss and gradient at equal weights, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tests.bench.speed import contest, shapes
from tests.bench.speed.contest import Side
from tests.bench.speed.work import Work

EQUAL = 1e-5  # relative, in fp32
FOLDER = Path(".plumbline/bench/speed")


@dataclass(frozen=True)
class Case:
    """A contest: ours against TRL at some of its settings, and how much faster ours should be."""

    shape: str
    mode: Literal["full", "lora"]
    steps: int
    batch: int  # pairs
    at_once: int  # of them, TRL's; ours is told the whole batch and cuts it up as it likes
    goals: Mapping[str, float]  # TRL's settings -> ratio wanted
    answers: int = 2

    def work(self, folder: Path) -> Work:
        shape = shapes.SHAPES[self.shape]
        return Work(
            base=str(shapes.build(shape, folder)),
            vocabulary=shape.vocabulary,
            steps=self.steps,
            batch=self.batch,
            at_once=self.at_once,
            answers=self.answers,
            mode=self.mode,
        )


@dataclass(frozen=True)
class Bench:
    """A bench of trainings. `program`: the function of `ours`, `trl_side` and `equality`. The first
    case, against its first settings, is the headline."""

    program: Literal["train", "reward"]
    cases: Mapping[str, Case]
    usual: Sequence[str]
    quick: Sequence[str]


def contend(bench: Bench, name: str, case: Case, asked: argparse.Namespace) -> dict[str, Any]:
    """One case's figures, and its ratios by TRL's settings."""
    usual = 5 if not asked.quick else 2 if name == bench.quick[0] else 1
    rounds = asked.rounds or usual
    theirs = case.work(asked.folder)
    ours = replace(theirs, at_once=theirs.batch)
    sides = [Side(f"{name}, ours", f"ours:{bench.program}", ours.options())]
    for one in case.goals:
        options = {**theirs.options(), "settings": one}
        sides.append(Side(f"{name}, TRL {one}", f"trl_side:{bench.program}", options))
    log = asked.folder / f"{bench.program}.jsonl"
    found = contest.measure(sides, rounds, asked.threads, log)
    mine, *others = (found[side.name] for side in sides)
    peers = dict(zip(case.goals, others, strict=True))
    ratios = {one: contest.ratios(mine, reports) for one, reports in peers.items()}
    kind = contest.telling(mine)
    return {
        "case": name,
        "judged_by": kind,
        "rounds": rounds,
        "ours": contest.figures(mine),
        "trl": {one: contest.figures(reports) for one, reports in peers.items()},
        "ratio": ratios,
        "goal": dict(case.goals),
        "met": {one: ratios[one][kind]["median"] >= goal for one, goal in case.goals.items()},
        "margin_at_start": start_margin(mine),
    }


def start_margin(reports: Sequence[contest.Report]) -> float | None:
    """0 only if no pair's margin was anything else at the first step: then none was above 0, and
    none below, or their mean would show it. None where there are no margins."""
    first: list[dict[str, float]] = [report["first"] for report in reports]
    if not all("rewards/margins" in one for one in first):
        return None
    return max(max(abs(one["rewards/margins"]), one["rewards/accuracies"]) for one in first)


def equality(call: str, work: Work) -> dict[str, Any]:
    """Largest relative differences of loss and gradient over the work's batches, in fp32."""
    found = contest.run(Side("equality", call, work.options()), threads=1)
    return {**found, "goal": EQUAL, "met": max(found["loss"], found["gradient"]) <= EQUAL}


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """What all the speed benches are asked with."""
    made = argparse.ArgumentParser(prog=f"make bench NAME={name}", description=doc)
    made.add_argument("--quick", action="store_true", help="minutes, and only indicative")
    made.add_argument("--rounds", type=int, help="how often each side runs")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--folder", type=Path, default=FOLDER, help="where the models are kept")
    return made


def read(asking: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, the folder made."""
    asked = asking.parse_args(arguments)
    asked.folder = asked.folder.resolve()
    asked.folder.mkdir(parents=True, exist_ok=True)
    return asked


def main(bench: Bench, doc: str | None, arguments: Sequence[str]) -> None:
    asking = parser(bench.program, doc)
    asking.add_argument("--cases", nargs="+", choices=bench.cases, metavar="CASE")
    asking.add_argument("--steps", type=int, help="optimiser steps of each side")
    asking.add_argument("--settings", nargs="+", help="TRL's, instead of the usual ones")
    asked = read(asking, arguments)
    started, machine = time.monotonic(), contest.machine(asked.threads)
    found = []
    for name in asked.cases or (bench.quick if asked.quick else bench.usual):
        case = bench.cases[name]
        steps = asked.steps or (max(2, case.steps // 2) if asked.quick else case.steps)
        goals = {one: case.goals.get(one, 0.0) for one in asked.settings or case.goals}
        found.append(contend(bench, name, replace(case, steps=steps, goals=goals), asked))
    work = bench.cases[bench.quick[0]].work(asked.folder)
    equal = equality(f"equality:{bench.program}", replace(work, steps=1 if asked.quick else 3))
    print(json.dumps(result(bench.program, found, equal, machine, started)))


def result(
    bench: str,
    cases: Sequence[Mapping[str, Any]],
    equal: Mapping[str, Any],
    machine: Mapping[str, Any],
    started: float,
) -> dict[str, Any]:
    """The bench's JSON."""
    head = cases[0]
    settings = next(iter(head["goal"]))
    return {
        "bench": bench,
        "ratio": head["ratio"][settings][head["judged_by"]]["median"],
        "of": f"useful tokens per second ({head['judged_by']}), {head['case']}, "
        f"ours over TRL's {settings}",
        "goal": head["goal"][settings],
        "met": head["met"][settings],
        "cases": list(cases),
        "equality": equal,
        "peer": contest.peer(),
        "machine": machine,
        "seconds": round(time.monotonic() - started),
    }
