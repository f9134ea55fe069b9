"""`make bench NAME=icpl`: what ICPL learns of a hidden taste from so many rankings.

Tastes are linear: in features of an answer's surface, or in criteria of a rubric. Proxy raters rank
with noise. ICPL runs with the seeded writer, without a language model; beside it are Bradley-Terry
models given the same number of rankings of as many answers: the product's own reward model on the
demo's base, and one that is linear in the very features that tastes are made of. `agreement` is the
share of held-out pairs that are ordered as the taste orders them, after `stated` rankings; `ratio`,
by baseline, is the rankings that it needs to reach what ICPL reaches then, over ICPL's: above 1
ICPL needs fewer, and null the baseline never reached it. Whoever wins is reported; `met` is 1 where
no baseline needs fewer, on any kind of taste.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tests.bench.quality import page

if TYPE_CHECKING:
    from tests.bench.alignment.workshop import Workshop

STATED = 30  # rankings: five generations of six
COUNTS = (2, 4, 6, 9, 12, 18, 24, 30, 45, 60)
KINDS = ("surface", "criteria")
RESAMPLES = 2000
Curve = Sequence[tuple[int, float]]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=icpl", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few tastes, minutes")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/icpl"))
    asked = parser.parse_args(arguments)
    started = time.process_time()
    result = measure(asked.folder.resolve(), tastes=6 if asked.quick else 24, quick=asked.quick)
    result["cpu_seconds"] = round(time.process_time() - started)
    print(json.dumps(page.plain(result)))


def measure(folder: Path, tastes: int, quick: bool) -> dict[str, Any]:
    import torch

    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop
    from tests.bench.alignment.world import BASE
    from tests.bench.evolving import pool

    torch.set_num_threads(2)
    workshop = Workshop(folder, Sampler(BASE.base))
    some = pool.drawn(workshop, "train", 90 if quick else 180, 16, 31)
    heldout = pool.drawn(workshop, "heldout", 40 if quick else 120, 16, 32)
    kinds = {kind: _kind(workshop, kind, tastes, some, heldout, quick) for kind in KINDS}
    rows = [row for found in kinds.values() for row in found]
    return {
        "bench": "icpl",
        "stated": STATED,
        "goal": 1.0,
        "met": int(all(row["ratio"] is None or row["ratio"] >= 1 for row in rows)),
        "agreement": {
            kind: {row["who"]: row["agreement"] for row in found} for kind, found in kinds.items()
        },
        "ratio": {
            kind: {row["who"]: row["ratio"] for row in found if row["who"] != "icpl"}
            for kind, found in kinds.items()
        },
        "curves": {
            kind: {row["who"]: row["curve"] for row in found} for kind, found in kinds.items()
        },
        "prompts": {"to rank": len(some), "held out": len(heldout)},
        "peer": {"name": "align.gpu.reward, and linear Bradley-Terry", "version": "this commit"},
        "machine": {"cores": os.cpu_count()},
    }


def _kind(
    workshop: Workshop,
    kind: str,
    tastes: int,
    some: Sequence[Any],
    heldout: Sequence[Any],
    quick: bool,
) -> list[dict[str, Any]]:
    """Everybody's curve by taste, and the figures drawn from them."""
    from tests.bench.evolving import learners, pool

    curves: dict[str, list[Curve]] = {"icpl": [], "linear": [], "reward_model": []}
    counts = [one for one in COUNTS if one <= (STATED if quick else 60)]
    tuned = [STATED] if quick else [6, 12, 30, 60]
    for seed in range(tastes):
        taste = pool.taste(kind, seed, some)
        rubric = kind == "criteria"
        found = learners.icpl(some, heldout, taste, seed, max(counts), rubric=rubric)
        curves["icpl"].append(found)
        curves["linear"].append(learners.linear(some, heldout, taste, seed, counts))
        if seed < tastes // 3:  # each trains a model for every count
            curves["reward_model"].append(
                learners.reward_model(workshop, some, heldout, taste, seed, tuned)
            )
    return [figures(who, found, curves["icpl"]) for who, found in curves.items()]


def figures(who: str, found: Sequence[Curve], ours: Sequence[Curve]) -> dict[str, Any]:
    """Agreement after the stated rankings with its interval over tastes, and the ratio to ICPL on
    the same tastes."""
    values = [at(one, STATED) for one in found]
    draw = random.Random(0)
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = int(RESAMPLES * 0.025)
    target = fmean(at(one, STATED) for one in ours[: len(found)])
    needed = reaches(found, target)
    return {
        "who": who,
        "agreement": {"value": fmean(values), "low": means[cut], "high": means[-1 - cut]},
        "ratio": None if needed is None else needed / STATED,
        "curve": mean_curve(found),
    }


def at(curve: Curve, count: int) -> float:
    """The agreement after at most `count` rankings; a coin's before the first."""
    return next((value for used, value in reversed(curve) if used <= count), 0.5)


def reaches(found: Sequence[Curve], target: float) -> float | None:
    """Rankings at which the mean curve is first at the target, on straight lines between; None
    where it never is."""
    before = (0.0, 0.5)
    for used, value in mean_curve(found):
        if value >= target:
            share = (target - before[1]) / (value - before[1]) if value > before[1] else 1.0
            return before[0] + share * (used - before[0])
        before = (float(used), value)
    return None


def mean_curve(found: Sequence[Curve]) -> list[tuple[int, float]]:
    """At the counts of the first one, the mean over tastes."""
    counts = sorted({used for one in found for used, _ in one})
    if len(counts) > len(COUNTS):
        counts = [one for one in COUNTS if one <= max(counts)]
    return [(count, fmean(at(one, count) for one in found)) for count in counts]
