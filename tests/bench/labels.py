"""`make bench NAME=labels`: how many votes a strategy needs, next to asking at random.

A linear reward model (the probe) is refitted after every batch of votes that a strategy asked for,
and its accuracy on held-out votes is drawn against their number; on simulated raters and on
AlpacaEval's judge. `ratio` is the number of votes at which a strategy's mean curve first reaches
what random reaches in the end, over the number at which random's own does; its interval is over
seeds, which all strategies share. null: it was not reached. Curves are kept in the folder, so that
an interrupted bench goes on where it was. The last line on stdout is the result as JSON; `met` is 1
when the best strategy needs at most half of the votes on every source.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.bench.quality import page

DATA = Path(__file__).resolve().parents[3] / "shared/data"
GOAL = 0.5
SEEDS, QUICK_SEEDS = 10, 2
RESAMPLES = 1000
YARDSTICK = "random"
Curves = Sequence[Sequence[float]]  # by seed, the accuracy at each count


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=labels", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/labels"))
    parser.add_argument("--data", type=Path, default=DATA, help="where the real votes are")
    parser.add_argument("--docs", type=Path, help="write the table and the picture here as well")
    asked = parser.parse_args(arguments)
    started = time.process_time()
    seeds = range(QUICK_SEEDS if asked.quick else SEEDS)
    result = measure(asked.folder.resolve(), asked.data, seeds)
    result["cpu_seconds"] = round(time.process_time() - started)
    if asked.docs:
        page.write(asked.docs, "labels", table(result), "Accuracy against votes")
        page.draw(asked.docs, "labels", picture(result))
    for row in result["rows"]:
        row.pop("curve")
    print(json.dumps(page.plain(result)))


def measure(folder: Path, data: Path, seeds: Sequence[int]) -> dict[str, Any]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plumbline.settings")
    import django
    import torch

    django.setup()
    torch.set_num_threads(1)
    from plumbline.collect import selection
    from tests.bench.selecting import learning, shelf, sources

    rows: list[dict[str, Any]] = []
    for pool, plan in sources.sources(folder, data):
        shelved = shelf.Shelf(folder, learning.Learner(pool, plan))
        names = [name for name in selection.offered() if name != "contrast"]
        curves = {name: [shelved.curve(name, seed) for seed in seeds] for name in names}
        for name in names:
            rows.append({"source": pool.name, "strategy": name})
            rows[-1] |= figures(curves[name], curves[YARDSTICK], plan.counts)
    return {"bench": "labels", "goal": GOAL, "seeds": len(seeds), **verdict(rows), "rows": rows}


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The strategy whose worst ratio is the least, and whether that is good enough."""
    worst: dict[str, float] = {}
    for row in rows:
        if row["strategy"] != YARDSTICK:
            ratio = row["ratio"] if row["ratio"] is not None else float("inf")
            worst[row["strategy"]] = max(ratio, worst.get(row["strategy"], 0.0))
    best = min(worst, key=lambda name: worst[name])
    return {"best": best, "worst_ratio": worst[best], "met": int(worst[best] <= GOAL)}


def figures(curves: Curves, theirs: Curves, counts: Sequence[int]) -> dict[str, Any]:
    """A strategy's mean curve, and its ratio with the interval of the paired bootstrap."""
    draw = random.Random(0)
    found = []
    for _ in range(RESAMPLES):
        some = draw.choices(range(len(curves)), k=len(curves))
        found.append(ratio([curves[k] for k in some], [theirs[k] for k in some], counts))
    found.sort(key=lambda one: float("inf") if one is None else one)
    cut = int(RESAMPLES * 0.025)
    gaps = [mean(own) - mean(other) for own, other in zip(curves, theirs, strict=True)]
    gaps.sort()
    drawn = sorted(fmean(draw.choices(gaps, k=len(gaps))) for _ in range(RESAMPLES))
    return {
        "target": means(theirs)[-1],
        "ratio": ratio(curves, theirs, counts),
        "low": found[cut],
        "high": found[-1 - cut],
        "ahead": {"value": fmean(gaps), "low": drawn[cut], "high": drawn[-1 - cut]},
        "final": means(curves)[-1],
        "curve": list(zip(counts, means(curves), strict=True)),
    }


def ratio(curves: Curves, theirs: Curves, counts: Sequence[int]) -> float | None:
    """Votes until the mean curve reaches where random's ends, over random's own; None: never."""
    target = means(theirs)[-1]
    ours, other = needed(means(curves), counts, target), needed(means(theirs), counts, target)
    assert other is not None
    return None if ours is None else ours / other


def needed(curve: Sequence[float], counts: Sequence[int], target: float) -> float | None:
    """The count at which a curve first is at `target`, on straight lines between counts."""
    if curve[0] >= target:
        return float(counts[0])
    for at in range(1, len(curve)):
        if curve[at] >= target:
            share = (target - curve[at - 1]) / (curve[at] - curve[at - 1])
            return counts[at - 1] + share * (counts[at] - counts[at - 1])
    return None


def means(curves: Curves) -> list[float]:
    return [fmean(column) for column in zip(*curves, strict=True)]


def mean(curve: Sequence[float]) -> float:
    """Over counts: how good the model is while it learns."""
    return fmean(curve)


def table(result: Mapping[str, Any]) -> str:
    out = [
        "| votes | strategy | ratio (95 %) | accuracy at the end | mean gain over random (95 %) |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        high = "never" if row["high"] is None else f"{row['high']:.2f}"
        low = "never" if row["low"] is None else f"{row['low']:.2f}"
        value = "never" if row["ratio"] is None else f"{row['ratio']:.2f}"
        out.append(
            f"| {row['source']} | {row['strategy']} | {value} ({low} to {high}) "
            f"| {row['final']:.3f} | {page.span(row['ahead'])} |"
        )
    return "\n".join(out)


def picture(result: Mapping[str, Any]) -> str:
    panels = []
    for source in dict.fromkeys(row["source"] for row in result["rows"]):
        lines = {
            row["strategy"]: [(at, value, value, value) for at, value in row["curve"]]
            for row in result["rows"]
            if row["source"] == source
        }
        panels.append((source, lines))
    values = [point[1] for _, lines in panels for line in lines.values() for point in line]
    span = (min(values) - 0.01, max(values) + 0.01)
    return page.panels_svg("Held-out accuracy against votes", panels, span)
