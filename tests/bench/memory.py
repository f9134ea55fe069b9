"""`make bench NAME=memory`: the most memory a training holds, against TRL's DPOTrainer.

Each point is a fresh process that trains two steps and saves; its peak is the kernel's own count of
resident memory (and torch's of the GPU's, where there is one). Along one line answers grow, along
another the vocabulary does, and the 125M shape is the headline: `ratio` there is TRL's peak over
ours, so above 1 is less memory for ours; the goal of 0.6 times TRL's is a ratio of 1.67.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.bench.speed import cases, contest, shapes
from tests.bench.speed.comparisons import REALISTIC, Lengths
from tests.bench.speed.contest import Side
from tests.bench.speed.work import Work

GOAL = 0.6  # of TRL's peak, on the 125M shape
STEPS = 2  # the second one has optimiser state


@dataclass(frozen=True)
class Point:
    """A training to be measured. `length`: tokens of each answer; None draws realistic ones."""

    shape: str
    mode: Literal["full", "lora"] = "full"
    batch: int = 8
    length: int | None = None
    vocabulary: int | None = None

    def work(self, folder: Path) -> Work:
        shape = shapes.SHAPES[self.shape]
        if self.vocabulary is not None:
            shape = shape.with_vocabulary(self.vocabulary)
        lengths = REALISTIC
        if self.length is not None:
            lengths = Lengths((256, 256), (self.length, self.length), self.length, 0.0)
        return Work(
            base=str(shapes.build(shape, folder)),
            vocabulary=shape.vocabulary,
            steps=STEPS,
            batch=self.batch,
            at_once=self.batch,
            mode=self.mode,
            lengths=lengths,
        )


POINTS = {
    "m125-full": Point("m125"),
    "m125-lora": Point("m125", mode="lora"),
    **{f"tiny, answers of {n}": Point("tiny", batch=4, length=n) for n in (256, 512, 1024, 2048)},
    **{
        f"tiny, vocabulary {n}": Point("tiny", batch=4, vocabulary=n)
        for n in (2_048, 32_000, 151_936)
    },
}
QUICK = {
    "m125-full": Point("m125", batch=2),
    "tiny, answers of 1024": Point("tiny", batch=2, length=1024),
    "tiny, vocabulary 32000": Point("tiny", batch=4, vocabulary=32_000),
}
GPU = {"q05-full": Point("q05", batch=16), "q15-full": Point("q15")}


def measure(point: Point, name: str, folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Both sides' peaks at one point."""
    options = point.work(folder).options()
    sides = [
        Side(f"{name}, ours", "ours:train", options),
        Side(f"{name}, TRL", "trl_side:train", {**options, "settings": "tuned"}),
    ]
    found = contest.measure(sides, rounds, threads, folder / "memory.jsonl")
    ours, theirs = found.values()
    kind = "gpu_gib" if "gpu_gib" in ours[0] else "rss_gib"
    peaks = {
        side: contest.spread([one[kind] for one in reports])
        for side, reports in (("ours", ours), ("trl", theirs))
    }
    share = peaks["ours"]["median"] / peaks["trl"]["median"]
    return {"point": name, "of": kind, **peaks, "share": contest.significant(share)}


def main(arguments: Sequence[str]) -> None:
    asking = cases.parser("memory", __doc__)
    known = {**POINTS, **GPU}
    asking.add_argument("--points", nargs="+", choices=known, metavar="POINT")
    asked = cases.read(asking, arguments)
    started, machine = time.monotonic(), contest.machine(asked.threads)
    if asked.points:
        chosen = {name: known[name] for name in asked.points}
    else:
        chosen = QUICK if asked.quick else POINTS
    rounds = asked.rounds or (1 if asked.quick else 3)
    floor = contest.run(Side("nothing", "floor:nothing"), asked.threads)
    found = [
        measure(point, name, asked.folder, rounds, asked.threads) for name, point in chosen.items()
    ]
    share = found[0]["share"]
    print(
        json.dumps(
            {
                "bench": "memory",
                "ratio": contest.significant(1 / share),
                "of": f"TRL's peak over ours, {found[0]['point']}",
                "goal": contest.significant(1 / GOAL),
                "met": share <= GOAL,
                "points": found,
                "imports_gib": floor,
                "peer": contest.peer(),
                "machine": machine,
                "seconds": round(time.monotonic() - started),
            }
        )
    )
