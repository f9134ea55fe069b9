"""`make bench NAME=reward_quality`: how well reward models learn votes, and how sure they may be.

Held-out accuracy with its interval against the number of labels, for every objective there is and
for TRL's RewardTrainer on the same base; on simulated raters, on HH-RLHF's people and on
AlpacaEval's judge. The last line on stdout is the result as JSON; `met` is 1 when our Bradley-Terry
model is at no count surely below TRL's (paired, 95 %) and is calibrated better at the largest one,
over all sources. Everybody is tried at two learning rates and shown at the better one. What ours
computed is kept, and a bench that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from align.measure import intervals, pairs
from align.measure.pairs import Pair
from tests.bench.quality import page

DATA = Path(__file__).resolve().parents[3] / "shared/data"
COUNTS, QUICK = (100, 300, 1000), (40, 120)
HELD_OUT, QUICK_HELD_OUT = 300, 100
OURS = "bradley_terry"  # what a round's reward model is unless somebody chooses otherwise


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=reward_quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small counts, minutes")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/reward_quality"))
    parser.add_argument("--data", type=Path, default=DATA, help="where the real votes are")
    parser.add_argument("--docs", type=Path, help="write the tables and the picture here as well")
    asked = parser.parse_args(arguments)
    started = time.process_time()
    result = measure(
        asked.folder.resolve(),
        asked.data,
        QUICK if asked.quick else COUNTS,
        QUICK_HELD_OUT if asked.quick else HELD_OUT,
    )
    result["cpu_seconds"] = round(time.process_time() - started)
    if asked.docs:
        page.write(asked.docs, "reward-quality", page.quality_tables(result))
        page.draw(asked.docs, "reward-quality", page.quality_picture(result))
    print(json.dumps(page.plain(result)))


def measure(folder: Path, data: Path, counts: Sequence[int], heldout: int) -> dict[str, Any]:
    import torch

    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop
    from tests.bench.alignment.world import BASE
    from tests.bench.quality import sides, sources

    torch.set_num_threads(1)
    workshop = Workshop(folder, Sampler(BASE.base))
    rows: list[dict[str, Any]] = []
    for source in sources.sources(data, workshop, max(counts), heldout):
        for count in counts:
            found: dict[str, tuple[float, list[Pair]]] = {}
            for side in (*sides.ours(), sides.TRL):
                name = f"{source.name}, {count} labels, {side.name}"
                tried = []
                for rate in side.rates:
                    try:
                        part = source.trained[:count]
                        seen = sides.learn(side, rate, workshop, part, source.heldout)
                    except ValueError as error:
                        print(f"{name}: not from such votes ({error})", file=sys.stderr)
                        break
                    tried.append((pairs.accuracy(seen) or 0.0, rate, seen))
                    print(f"{name}, {rate:g}: {tried[-1][0]:.3f}", file=sys.stderr, flush=True)
                if tried:
                    _, rate, seen = max(tried, key=lambda one: one[0])
                    found[side.name] = rate, seen
            _, theirs = found[sides.TRL.name]
            for side_name, (rate, seen) in found.items():
                gap = intervals.difference(seen, theirs, pairs.accuracy)
                rows.append(
                    {
                        "source": source.name,
                        "labels": count,
                        "side": side_name,
                        "learning_rate": rate,
                        **figures(seen),
                        "against_trl": asdict(gap) if gap else None,
                    }
                )
    return {"bench": "reward_quality", "met": int(met(rows)), "held_out": heldout, "rows": rows}


def figures(seen: Sequence[Pair]) -> dict[str, Any]:
    """One side's figures. The temperature is found on half of the prompts, judged on the others."""
    groups = sorted({pair.group for pair in seen})
    tuning = set(groups[::2])
    temperature = pairs.best_temperature([pair for pair in seen if pair.group in tuning])
    rest = [pair for pair in seen if pair.group not in tuning]
    accuracy = intervals.interval(seen, pairs.accuracy)
    return {
        "accuracy": asdict(accuracy) if accuracy else None,
        "log_loss": pairs.log_loss(seen),
        "ece": pairs.ece(seen),
        "temperature": temperature,
        "tempered_ece": pairs.ece(rest, temperature),
    }


def met(rows: Sequence[Mapping[str, Any]]) -> bool:
    """See the module. Calibration is the mean error over sources, without a temperature."""
    mine = [row for row in rows if row["side"] == OURS]
    last = max(row["labels"] for row in rows)
    never_below = all(row["against_trl"] and row["against_trl"]["high"] >= 0 for row in mine)
    ours = fmean(row["ece"] for row in mine if row["labels"] == last)
    theirs = fmean(row["ece"] for row in rows if row["labels"] == last and row["side"] == "TRL")
    return never_below and ours < theirs
