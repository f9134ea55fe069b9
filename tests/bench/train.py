"""`make bench NAME=train`: preference training against TRL's DPOTrainer, in the same run.

Random weights, lengths of real data, one thread unless told otherwise. The last line on stdout is
the result as JSON; `ratio` is useful tokens per CPU second, ours over TRL's at its best settings,
full weights of the tiny shape. `ARGS="--cases m125-lora --rounds 3"` measures what is named.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tests.bench.speed import contest, shapes
from tests.bench.speed.contest import Side
from tests.bench.speed.work import Work

HEADLINE = "tiny-full"
EQUAL = 1e-5  # relative, in fp32


@dataclass(frozen=True)
class Case:
    """A contest: ours against TRL at some of its settings, and how much faster ours should be."""

    shape: str
    mode: Literal["full", "lora"]
    steps: int
    batch: int
    at_once: int
    goals: dict[str, float]  # TRL's settings -> ratio wanted
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


CASES = {
    "tiny-full": Case("tiny", "full", 9, 8, 8, {"tuned": 2.8, "defaults": 3.5}),
    "tiny-lora": Case("tiny", "lora", 9, 8, 8, {"tuned": 3.0}),
    # Eight ranked answers are 28 pairs; TRL takes them 7 at a time into the same optimiser step.
    "tiny-ranked": Case("tiny", "full", 4, 28, 7, {"tuned": 5.0}, answers=8),
    "m125-full": Case("m125", "full", 4, 2, 2, {"tuned": 2.5, "defaults": 3.3}),
    "m125-lora": Case("m125", "lora", 4, 2, 2, {"tuned": 3.0}),
    # For a GPU; on a CPU these take many minutes.
    "q05-full": Case("q05", "full", 12, 16, 16, {"tuned": 2.0}),
    "q05-lora": Case("q05", "lora", 12, 16, 16, {"tuned": 2.0}),
    "q05-ranked": Case("q05", "full", 6, 28, 28, {"tuned": 5.0}, answers=8),
    "q15-full": Case("q15", "full", 8, 8, 8, {"tuned": 2.0}),
    "q15-lora": Case("q15", "lora", 8, 8, 8, {"tuned": 2.0}),
}
USUAL = ("tiny-full", "tiny-lora", "tiny-ranked", "m125-full", "m125-lora")
QUICK = ("tiny-full", "tiny-lora", "tiny-ranked")


def contend(name: str, case: Case, folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """One case's figures, and its ratios by TRL's settings."""
    work = case.work(folder)
    # Ours is told the whole batch; how it cuts that up is its own business.
    mine = replace(work, at_once=work.batch) if case.answers > 2 else work
    sides = [Side(f"{name}, ours", "ours:train", mine.options())]
    sides += [
        Side(f"{name}, TRL {one}", "trl_side:train", {**work.options(), "settings": one})
        for one in case.goals
    ]
    found = contest.measure(sides, rounds, threads)
    ours, *theirs = (found[side.name] for side in sides)
    peers = dict(zip(case.goals, theirs, strict=True))
    return {
        "case": name,
        "rounds": rounds,
        "ours": contest.figures(ours),
        "trl": {one: contest.figures(reports) for one, reports in peers.items()},
        "ratio": {one: contest.ratios(ours, reports) for one, reports in peers.items()},
        "goal": case.goals,
        "met": {
            one: contest.ratios(ours, peers[one])["cpu"]["median"] >= goal
            for one, goal in case.goals.items()
        },
        "margin_at_start": start_margin(ours),
    }


def start_margin(reports: Sequence[contest.Report]) -> float | None:
    """0 only if no pair's margin was anything else at the first step: then none was above 0, and
    none below, or their mean would show it."""
    first = [report["first"] for report in reports]
    if not all("rewards/margins" in one for one in first):
        return None
    return max(max(abs(one["rewards/margins"]), one["rewards/accuracies"]) for one in first)


def equality(folder: Path, call: str, batches: int) -> dict[str, Any]:
    """Largest relative differences of loss and gradient in fp32, on the tiny shape."""
    work = replace(CASES[HEADLINE].work(folder), steps=batches)
    found = contest.run(Side("equality", call, work.options()), threads=1)
    found["goal"] = EQUAL
    found["met"] = max(found["loss"], found["gradient"]) <= EQUAL
    return found


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """What all the speed benches are asked with."""
    made = argparse.ArgumentParser(prog=f"make bench NAME={name}", description=doc)
    made.add_argument("--quick", action="store_true", help="minutes, and only indicative")
    made.add_argument("--rounds", type=int, help="how often each side runs")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--folder", type=Path, default=Path(".plumbline/bench/speed"))
    return made


def main(arguments: Sequence[str]) -> None:
    asking = parser("train", __doc__)
    asking.add_argument("--cases", nargs="+", choices=CASES, help=f"of {', '.join(CASES)}")
    asking.add_argument("--steps", type=int, help="optimiser steps of each side")
    asking.add_argument("--settings", nargs="+", help="TRL's, instead of the usual ones")
    asked = asking.parse_args(arguments)
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started, machine = time.monotonic(), contest.machine(asked.threads)
    cases = []
    for name in asked.cases or (QUICK if asked.quick else USUAL):
        case = CASES[name]
        rounds = asked.rounds or (2 if name == HEADLINE else 1) if asked.quick else asked.rounds
        steps = asked.steps or (min(case.steps, 5) if asked.quick else case.steps)
        goals = case.goals
        if asked.settings:
            goals = {one: case.goals.get(one, 0.0) for one in asked.settings}
        case = replace(case, steps=steps, goals=goals)
        cases.append(contend(name, case, folder, rounds or 5, asked.threads))
    equal = equality(folder, "equality:train", 2 if asked.quick else 6)
    print(json.dumps(result("train", cases, equal, machine, started)))


def result(
    bench: str,
    cases: Sequence[dict[str, Any]],
    equal: dict[str, Any],
    machine: dict[str, Any],
    started: float,
) -> dict[str, Any]:
    """The bench's JSON. The first case's first settings are the headline."""
    head = cases[0]
    settings = next(iter(head["goal"]))
    return {
        "bench": bench,
        "ratio": head["ratio"][settings]["cpu"]["median"],
        "of": f"useful tokens per CPU second, {head['case']}, TRL {settings}",
        "goal": head["goal"][settings],
        "met": head["met"][settings],
        "cases": list(cases),
        "equality": equal,
        "peer": contest.peer(),
        "machine": machine,
        "seconds": round(time.monotonic() - started),
    }
