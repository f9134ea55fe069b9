"""`make bench NAME=reward_quality`: how well reward models learn votes, and how sure they may be.

Held-out accuracy with its interval against the number of labels, for every objective there is and
for TRL's RewardTrainer on the same base; on simulated raters, on HH-RLHF's people and on
AlpacaEval's judge. The last line on stdout is the result as JSON; `met` is 1 when our Bradley-Terry
model is at no count surely below TRL's (paired, 95 %) and is calibrated better at the largest one,
over all sources. All learners have one learning rate; three times as much was no better for either
on simulated votes that are not reported. What was computed is kept, and a bench that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from align.measure import intervals, pairs
from align.measure.pairs import Pair
from tests.bench.quality import page

if TYPE_CHECKING:
    from tests.bench.alignment.workshop import Workshop
    from tests.bench.quality.sources import Source, Voted

DATA = Path(__file__).resolve().parents[3] / "shared/data"
AGAINST = {  # a side less TRL, on the same votes
    "against_trl": pairs.accuracy,
    "log_loss_against_trl": pairs.log_loss,
    "ece_against_trl": pairs.ece,
}
OURS = "bradley_terry"  # what a round's reward model is unless somebody chooses otherwise


@dataclass(frozen=True)
class Size:
    """`counts`: labels to learn from, of simulated raters and of real votes, whose answers are
    several times as long."""

    counts: tuple[int, ...]
    real_counts: tuple[int, ...]
    heldout: int


FULL, QUICK = Size((100, 300, 900), (100, 300), 300), Size((40, 120), (40,), 100)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=reward_quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small counts, minutes")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/reward_quality"))
    parser.add_argument("--data", type=Path, default=DATA, help="where the real votes are")
    parser.add_argument("--docs", type=Path, help="write the tables and the picture here as well")
    asked = parser.parse_args(arguments)
    started = time.process_time()
    size = QUICK if asked.quick else FULL
    result = measure(asked.folder.resolve(), asked.data, size)
    result["cpu_seconds"] = round(time.process_time() - started)
    if asked.docs:
        page.write(asked.docs, "reward-quality", page.quality_tables(result), "Held-out accuracy")
        page.draw(asked.docs, "reward-quality", page.quality_picture(result))
    print(json.dumps(page.plain(result)))


def measure(folder: Path, data: Path, size: Size) -> dict[str, Any]:
    import torch

    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop
    from tests.bench.alignment.world import BASE
    from tests.bench.quality import sides, sources

    torch.set_num_threads(1)
    workshop = Workshop(folder, Sampler(BASE.base))
    everything = list(sources.sources(data, workshop, max(size.counts), size.heldout))
    elsewhere = {source.name: source.heldout for source in everything}
    elsewhere[sources.SHIFTED] = sources.shifted(workshop, size.heldout)
    rows: list[dict[str, Any]] = []
    both: list[dict[str, Any]] = []
    for source in everything:
        counts = size.counts if source.name == sources.SIMULATED else size.real_counts
        for count in counts:
            rows += learners(workshop, source, count)
        both += explicit_and_implicit(workshop, source, max(counts), elsewhere)
    return {
        "bench": "reward_quality",
        "met": int(met(rows)),
        "calibration": {side: calibration(rows, side) for side in (OURS, sides.TRL.name)},
        "rows": rows,
        "explicit_and_implicit": both,
    }


def learners(workshop: Workshop, source: Source, count: int) -> Iterator[dict[str, Any]]:
    """Every side's figures on the first `count` votes of a source."""
    from tests.bench.quality import sides

    part = source.trained[:count]
    found: dict[str, list[Pair]] = {}
    for side in (*sides.ours(ties=any(one.p == 0.5 for one in source.trained)), sides.TRL):
        about = f"{source.name}, {count} labels, {side.name}"
        try:
            seen = sides.learn(side, workshop, part, source.heldout)
        except ValueError as error:
            print(f"{about}: not from such votes ({error})", file=sys.stderr, flush=True)
            continue
        found[side.name] = seen
        print(f"{about}: {pairs.accuracy(seen):.3f}", file=sys.stderr, flush=True)
    for name, seen in found.items():
        gaps = {
            about: intervals.difference(seen, found[sides.TRL.name], figure)
            for about, figure in AGAINST.items()
        }
        yield {
            "source": source.name,
            "labels": count,
            "side": name,
            **figures(seen),
            **{about: asdict(gap) if gap else None for about, gap in gaps.items()},
        }


def explicit_and_implicit(
    workshop: Workshop, source: Source, count: int, elsewhere: Mapping[str, Sequence[Voted]]
) -> Iterator[dict[str, Any]]:
    """Held-out accuracy of the reward model and of a DPO policy's implicit reward, both of the same
    votes, on the source's own held-out votes and on those of others."""
    from tests.bench.quality import sides

    weights = [
        sides.made(side, workshop, source.trained[:count]) for side in (sides.OURS, sides.IMPLICIT)
    ]
    for name, heldout in elsewhere.items():
        explicit, implicit = (sides.margins(workshop, one, heldout) for one in weights)
        found = {
            "explicit": intervals.interval(explicit, pairs.accuracy),
            "implicit": intervals.interval(implicit, pairs.accuracy),
            "gap": intervals.difference(explicit, implicit, pairs.accuracy),
        }
        yield {
            "source": source.name,
            "labels": count,
            "measured_on": name,
            **{key: asdict(one) if one else None for key, one in found.items()},
        }


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
    never_below = all(row["against_trl"] and row["against_trl"]["high"] >= 0 for row in mine)
    return never_below and calibration(rows, OURS) < calibration(rows, "TRL")


def calibration(rows: Sequence[Mapping[str, Any]], side: str) -> float:
    """A side's mean ECE over the sources, each at its largest count."""
    mine = [row for row in rows if row["side"] == side]
    most: dict[str, int] = {}
    for row in mine:
        most[row["source"]] = max(most.get(row["source"], 0), row["labels"])
    return fmean(row["ece"] for row in mine if row["labels"] == most[row["source"]])
