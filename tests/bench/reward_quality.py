"""`make bench NAME=reward_quality`: how well reward models learn votes, and how sure they may be.

Held-out accuracy with its interval against the number of labels, for every objective there is and
for TRL's RewardTrainer on the same base; on simulated raters, on HH-RLHF's people and on
AlpacaEval's judge. The last line on stdout is the result as JSON; `met` is 1 when our Bradley-Terry
model, as a round trains it, is at no count surely below TRL's (paired, 95 %) and is calibrated
better at the largest one, over all sources, by the plain and by the unbiased error. These two see
several draws of the votes, the other objectives one; with `--contest` there are no others, which is
all that `met` asks about. What was computed is kept, and a bench that was stopped goes on where it
was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
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
    "brier_against_trl": pairs.brier,
    "ece_against_trl": pairs.ece,
    "error_against_trl": pairs.calibration_error,
}
ERRORS = ("ece", "error")
OURS = "bradley_terry"  # what a round's reward model is unless somebody chooses otherwise


@dataclass(frozen=True)
class Size:
    """`counts`: labels to learn from, of simulated raters and of real votes, whose answers are
    several times as long. `draws`: of votes, for Bradley-Terry and TRL; there are two of real
    ones, which hold out every prompt once."""

    counts: tuple[int, ...]
    real_counts: tuple[int, ...]
    heldout: int
    draws: int


FULL, QUICK = Size((100, 300, 900), (100, 300), 480, 3), Size((40, 120), (40,), 100, 1)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=reward_quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small counts, minutes")
    parser.add_argument("--contest", action="store_true", help="Bradley-Terry and TRL alone")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/reward_quality"))
    parser.add_argument("--data", type=Path, default=DATA, help="where the real votes are")
    parser.add_argument("--docs", type=Path, help="write the tables and the picture here as well")
    asked = parser.parse_args(arguments)
    started = time.process_time()
    size = QUICK if asked.quick else FULL
    result = measure(asked.folder.resolve(), asked.data, size, everybody=not asked.contest)
    result["cpu_seconds"] = round(time.process_time() - started)
    if asked.docs:
        name = "reward-contest" if asked.contest else "reward-quality"
        page.write(asked.docs, name, page.quality_tables(result), "Held-out accuracy")
        page.draw(asked.docs, name, page.quality_picture(result))
    print(json.dumps(page.plain(result)))


def measure(folder: Path, data: Path, size: Size, *, everybody: bool = True) -> dict[str, Any]:
    import torch

    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop
    from tests.bench.alignment.world import BASE
    from tests.bench.quality import sides, sources

    torch.set_num_threads(1)
    workshop = Workshop(folder, Sampler(BASE.base))
    draws: dict[str, list[Source]] = {}
    for draw in range(size.draws):
        for one in sources.sources(data, workshop, max(size.counts), size.heldout, draw):
            draws.setdefault(one.name, []).append(one)
    elsewhere = {name: found[0].heldout for name, found in draws.items()}
    if everybody:
        elsewhere[sources.SHIFTED] = sources.shifted(workshop, size.heldout)
    rows: list[dict[str, Any]] = []
    both: list[dict[str, Any]] = []
    for name, found in draws.items():
        counts = size.counts if name == sources.SIMULATED else size.real_counts
        for count in counts:
            rows += learners(workshop, found, count, everybody=everybody)
        if everybody:
            both += explicit_and_implicit(workshop, found[0], max(counts), elsewhere)
    ours = sides.made(sides.OURS, workshop, draws[sources.SIMULATED][0].trained)
    return {
        "bench": "reward_quality",
        "met": int(met(rows)),
        "calibration": {
            side: {error: calibration(rows, side, error) for error in ERRORS}
            for side in (OURS, sides.PROBE.name, sides.TRL.name)
        },
        "scoring": scoring(ours["weights"], draws[sources.SIMULATED][0].heldout),
        "rows": rows,
        "explicit_and_implicit": both,
    }


def scoring(weights: Path, heldout: Sequence[Voted]) -> dict[str, float]:
    """Answers a CPU minute that a score job of the product scores on one thread, the first time
    and again, from loading the model to writing the scores."""
    from align import jobs
    from align.gpu import score
    from align.run import hold
    from tests.bench.quality import sides

    asked = sides.answers(heldout)
    pace = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("first", "again"):
            folder = Path(scratch) / name
            folder.mkdir()
            job = jobs.ScoreJob(reward_model=str(weights), cache=f"{scratch}/cache", batch_size=32)
            jobs.write_rows(folder / jobs.ITEMS, asked)
            jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
            started = time.process_time()
            with hold(folder) as run:
                score.work(run)
            pace.append(60 * len(asked) / (time.process_time() - started))
    return {"answers": len(asked), "per_cpu_minute": pace[0], "again_per_cpu_minute": pace[1]}


def learners(
    workshop: Workshop, draws: Sequence[Source], count: int, *, everybody: bool = True
) -> Iterator[dict[str, Any]]:
    """Every side's figures on the first `count` votes of a source: of all draws, or of one."""
    from tests.bench.quality import sides

    ties = any(one.p == 0.5 for one in draws[0].trained)
    found: dict[str, list[list[Pair]]] = {}
    contest = (sides.OURS, sides.PROBE, sides.TRL)
    for side in (*sides.ours(ties=ties), sides.TRL) if everybody else contest:
        about = f"{draws[0].name}, {count} labels, {side.name}"
        some = draws if side in contest else draws[:1]
        try:
            found[side.name] = [
                sides.learn(side, workshop, one.trained[:count], one.heldout) for one in some
            ]
        except ValueError as error:
            print(f"{about}: not from such votes ({error})", file=sys.stderr, flush=True)
            continue
        each = [f"{pairs.accuracy(seen):.3f}" for seen in found[side.name]]
        print(f"{about}: {', '.join(each)}", file=sys.stderr, flush=True)
    theirs = found[sides.TRL.name]
    for name, seen in found.items():
        everything = list(chain.from_iterable(seen))
        same = list(chain.from_iterable(theirs[: len(seen)]))
        gaps = {
            about: intervals.difference(everything, same, figure)
            for about, figure in AGAINST.items()
        }
        yield {
            "source": draws[0].name,
            "labels": count,
            "side": name,
            "draws": len(seen),
            "heldout": len(everything),
            **figures(everything),
            **{about: asdict(gap) if gap else None for about, gap in gaps.items()},
        }


def explicit_and_implicit(
    workshop: Workshop, source: Source, count: int, elsewhere: Mapping[str, Sequence[Voted]]
) -> Iterator[dict[str, Any]]:
    """Held-out accuracy of the reward model and of a DPO policy's implicit reward, both of the same
    votes, on the source's own held-out votes and on those of others."""
    from tests.bench.quality import sides

    weights = [
        sides.made(side, workshop, source.trained[:count])["weights"]
        for side in (sides.OURS, sides.IMPLICIT)
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
    """One side's figures, and for what they would be worth its best temperature, found on half of
    the prompts and judged on the others."""
    groups = sorted({pair.group for pair in seen})
    tuning = set(groups[::2])
    temperature = pairs.best_temperature([pair for pair in seen if pair.group in tuning])
    rest = [pair for pair in seen if pair.group not in tuning]
    accuracy = intervals.interval(seen, pairs.accuracy)
    return {
        "accuracy": asdict(accuracy) if accuracy else None,
        "log_loss": pairs.log_loss(seen),
        "brier": pairs.brier(seen),
        "ece": pairs.ece(seen),
        "error": pairs.calibration_error(seen),
        "best_temperature": temperature,
        "tempered_ece": pairs.ece(rest, temperature),
    }


def met(rows: Sequence[Mapping[str, Any]]) -> bool:
    """See the module. Calibration is the mean error over sources."""
    mine = [row for row in rows if row["side"] == OURS]
    never_below = all(row["against_trl"] and row["against_trl"]["high"] >= 0 for row in mine)
    better = (calibration(rows, OURS, one) < calibration(rows, "TRL", one) for one in ERRORS)
    return never_below and all(better)


def calibration(rows: Sequence[Mapping[str, Any]], side: str, error: str) -> float:
    """A side's mean error over the sources, each at its largest count."""
    mine = [row for row in rows if row["side"] == side]
    most: dict[str, int] = {}
    for row in mine:
        most[row["source"]] = max(most.get(row["source"], 0), row["labels"])
    return fmean(row[error] for row in mine if row["labels"] == most[row["source"]])
