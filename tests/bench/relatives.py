"""`make bench NAME=relatives`: what the relatives of reward programs find again of planted truth.

Weighed factors on 200 pairs of a hidden logistic taste; judges with noise of their own, alone and
pooled; triples that a hierarchy with margins sends in a circle; and two opposite groups of raters,
read by one score and by a mixture's heads. The last line on stdout is the result as JSON; `met` is
1 where weighed factors foretell more than 85 % and the mixture more than 90 %.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from align import hierarchy, monotone, pooling
from align.hierarchy import Level
from align.monotone import Compared

SEEDS, QUICK_SEEDS = 20, 5
TASTE = {"words": -1.5, "structure": 2.5, "noise": 0.0}
NOISE = {"a": 1.0, "b": 1.2, "c": 1.4, "d": 1.6}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=relatives", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer draws, one mixture")
    quick = parser.parse_args(arguments).quick
    seeds = range(QUICK_SEEDS if quick else SEEDS)
    features = [weighed(seed) for seed in seeds]
    pools = [judges(seed) for seed in seeds]
    mixtures = [mixture(seed) for seed in range(1 if quick else 3)]
    result: dict[str, Any] = {
        "bench": "relatives",
        "features": {"accuracy": fmean(features), "worst": min(features), "pairs": 200},
        "pool": {
            "pooled": fmean(one["pooled"] for one in pools),
            "best_alone": fmean(one["best"] for one in pools),
            "contradicted_right": fmean(one["contradicted"] for one in pools),
        },
        "circles": {str(c): circles(c) for c in (0.0, 0.5, 1.0)},
        "mixture": {
            name: fmean(one[name] for one in mixtures) for name in ("one_score", "by_rater")
        },
        "goal": {"features": 0.85, "by_rater": 0.9},
        "peer": None,
        "machine": platform.machine(),
    }
    result["met"] = int(
        result["features"]["accuracy"] > 0.85 and result["mixture"]["by_rater"] > 0.9
    )
    print(json.dumps(result))


def weighed(seed: int) -> float:
    """Accuracy on 400 pairs of weights that 200 others gave."""
    draw = random.Random(seed)
    fitted = monotone.fit(_pairs(draw, 200), {"words": 0, "structure": 1, "noise": 1})
    right = [
        (_score(fitted, row.first) > _score(fitted, row.second)) == (row.p > 0.5)
        for row in _pairs(draw, 400)
    ]
    return fmean(right)


def judges(seed: int) -> Mapping[str, float]:
    """How often four judges with noise of their own are right, the best alone and together."""
    draw = random.Random(seed)
    alone: dict[str, list[bool]] = {name: [] for name in NOISE}
    pooled: list[bool] = []
    against: list[bool] = []
    for _ in range(600):
        gap = draw.gauss(0, 1)
        odds = {name: (gap + draw.gauss(0, sd)) / (1 + sd**2) for name, sd in NOISE.items()}
        found = pooling.pooled({k: monotone.sigmoid(x) for k, x in odds.items()}, 0.2)
        assert found is not None
        for name, x in odds.items():
            alone[name].append((x > 0) == (gap > 0))
        pooled.append((found.p > 0.5) == (gap > 0))
        against += [(odds[name] > 0) == (gap > 0) for name in found.contradicted]
    best = max(fmean(right) for right in alone.values())
    return {"pooled": fmean(pooled), "best": best, "contradicted": fmean(against)}


def circles(c: float) -> float:
    """The share of triples that go in a circle, of three normal factors with margins of c."""
    draw, order = random.Random(0), [Level(factor=name, margin=c) for name in "xyz"]
    rows = [{name: draw.gauss(0, 1) for name in "xyz"} for _ in range(3000)]
    deltas = hierarchy.deltas(order, rows)
    found = []
    for a, b, d in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        ahead = [hierarchy.decide(order, deltas, *two).ahead for two in ((a, b), (b, d), (d, a))]
        found.append(ahead in ([1, 1, 1], [-1, -1, -1]))
    return fmean(found)


def mixture(seed: int) -> Mapping[str, float]:
    """Accuracy on held-out votes of two opposite groups, by one score and by each rater's heads."""
    import torch

    torch.set_num_threads(1)
    from tests.align import test_mixture as planted
    from tests.align.conftest import build_base

    folder = Path(tempfile.mkdtemp())
    base = build_base(folder / "base", seed)
    found = planted.trained(_rundir(folder), base, "mixture", "mixture")
    planted.trained(_rundir(folder), base, "single", "bradley_terry")
    return {
        "one_score": planted.by_score(folder / "single"),
        "by_rater": planted.by_rater(folder / "mixture", found),
    }


def _rundir(parent: Path) -> Any:
    from align import jobs

    def make(job: Any, name: str = "run", **files: Any) -> Path:
        folder = parent / name
        folder.mkdir()
        jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
        for stem, rows in files.items():
            jobs.write_rows(folder / f"{stem}.jsonl", rows)
        return folder

    return make


def _pairs(draw: random.Random, count: int) -> list[Compared]:
    found = []
    for n in range(count):
        first, second = ({name: draw.gauss(0, 1) for name in TASTE} for _ in range(2))
        ahead = math.fsum(2 * w * (first[name] - second[name]) for name, w in TASTE.items())
        p = float(draw.random() < monotone.sigmoid(ahead))
        found.append(Compared(first, second, p, 1.0, str(n)))
    return found


def _score(fitted: monotone.Fitted, z: Mapping[str, float]) -> float:
    return monotone.score(fitted.weights, fitted.scales, z)
