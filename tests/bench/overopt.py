"""`make bench NAME=overopt`: how far a reward model can be followed, alone and as an ensemble.

As in Coste et al. (arXiv:2310.02743): votes with 25 % flipped at random train five reward models
that differ in their seed; the best of n answers is picked by one of them, or by a reading of all
(mean; worst case; mean less half the variance, n - 1 in its denominator), and judged by the gold
utility. Scores are put on one scale first, each member's by its mean and spread over all answers.
The last line on stdout is the result as JSON; `met` is 1 when the gold of an ensemble's reading at
the largest n lies above the single model's with the paired 95 % interval. KL is a bound, and where
answers repeat far below it, so both are given.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import Any

from align import jobs
from align.measure import best_of_n, overoptimisation
from align.measure.intervals import Interval, over_groups
from tests.bench.quality import page

NOISE = 0.25
MEMBERS = 5
VARIANCE_WEIGHT = 0.5
LEARNING_RATE = 1e-3
Reading = Callable[[Sequence[float]], float]
READINGS: Mapping[str, Reading] = {
    "mean": fmean,
    "worst case": min,
    "mean less half the variance": lambda marks: fmean(marks) - VARIANCE_WEIGHT * variance(marks),
}


@dataclass(frozen=True)
class Size:
    labels: int
    prompts: int
    answers: int


FULL, QUICK = Size(400, 120, 256), Size(120, 24, 64)


@dataclass(frozen=True)
class Answers:
    """One prompt's answers: what is in them, what they are worth, and each member's score."""

    texts: list[str]
    gold: list[float]
    members: list[list[float]]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=overopt", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few prompts and answers, minutes")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/overopt"))
    parser.add_argument("--docs", type=Path, help="write the tables and the picture here as well")
    asked = parser.parse_args(arguments)
    started = time.process_time()
    size = QUICK if asked.quick else FULL
    result = report(measure(asked.folder.resolve(), size), size)
    result["cpu_seconds"] = round(time.process_time() - started)
    if asked.docs:
        page.write(asked.docs, "overopt", page.overopt_tables(result))
        page.draw(asked.docs, "overopt", page.overopt_picture(result))
    print(json.dumps(page.plain(result)))


def measure(folder: Path, size: Size) -> dict[str, Answers]:
    """Train the members, draw, score: by prompt."""
    import torch

    from tests.bench.alignment import world
    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop, response
    from tests.bench.quality import sides, sources

    torch.set_num_threads(1)
    workshop = Workshop(folder, Sampler(world.BASE.base))
    votes = noisy(sources.simulated(workshop, size.labels, 1).trained)
    questions = world.heldout_questions(size.prompts)
    drawn = workshop.draw(world.BASE, questions, size.answers, 1.0, 77)
    items = [
        {"id": f"{k}:{d}", "messages": world.messages(question), "response": response(reply)}
        for k, (question, row) in enumerate(zip(questions, drawn, strict=True))
        for d, reply in enumerate(row)
    ]
    members: list[dict[str, float]] = []
    for seed in range(MEMBERS):
        made = workshop.do(
            sides.job(sides.ours()[0], LEARNING_RATE, seed), {jobs.COMPARISONS: votes}
        )
        spec = jobs.ScoreJob(reward_model=str(made["weights"]), batch_size=64)
        scored = workshop.do(spec, {jobs.ITEMS: items})
        rows = jobs.read_rows(scored["folder"] / jobs.SCORES)
        members.append(standard({row["id"]: row["reward"] for row in rows}))
        print(f"member {seed + 1} of {MEMBERS}", file=sys.stderr, flush=True)
    return {
        question: Answers(
            texts=[reply.text for reply in row],
            gold=[world.gold(question, reply) for reply in row],
            members=[[one[f"{k}:{d}"] for one in members] for d in range(len(row))],
        )
        for k, (question, row) in enumerate(zip(questions, drawn, strict=True))
    }


def noisy(votes: Sequence[Any]) -> list[dict[str, Any]]:
    """Comparison rows, one vote in four turned around."""
    from tests.bench.quality import sides

    draw = random.Random(25)
    rows = [sides.comparison(vote) for vote in votes]
    for row in rows:
        if draw.random() < NOISE:
            row["preferences"] = [(i, j, 1 - p, w) for i, j, p, w in row["preferences"]]
    return rows


def standard(scores: Mapping[str, float]) -> dict[str, float]:
    """On a scale with mean 0 and spread 1."""
    mean, spread = fmean(scores.values()), stdev(scores.values())
    return {key: (score - mean) / spread for key, score in scores.items()}


def report(found: Mapping[str, Answers], size: Size) -> dict[str, Any]:
    """Gold against KL for every reading, with fits; and whether an ensemble beats its members."""
    counts = [2**k for k in range(int(math.log2(size.answers)) + 1)]
    rows: list[dict[str, Any]] = []
    curves: dict[str, dict[str, list[float]]] = {}
    for name, proxies in readings().items():
        curves[name] = {
            prompt: [fmean(gold(one, proxy, n) for proxy in proxies) for n in counts]
            for prompt, one in found.items()
        }
        for place, n in enumerate(counts):
            gains = {prompt: line[place] - line[0] for prompt, line in curves[name].items()}
            rows.append(
                {
                    "reading": name,
                    "n": n,
                    "d_bound": math.sqrt(best_of_n.kl_bound(n)),
                    "d": math.sqrt(max(0.0, mean_kl(found, proxies, n))),
                    "gold": asdict(mean_of(gains)),
                    "win_rate": fmean(
                        best_of_n.win_rate(marks(one, proxy), one.gold, n)
                        for one in found.values()
                        for proxy in proxies
                    ),
                }
            )
    distances = [math.sqrt(best_of_n.kl_bound(n)) for n in counts]
    summary = {}
    for name, lines in curves.items():
        gains_by_prompt = [[value - line[0] for value in line] for line in lines.values()]
        fit = overoptimisation.fit("best_of_n", distances, gains_by_prompt)
        gap = {prompt: line[-1] - curves["single"][prompt][-1] for prompt, line in lines.items()}
        against = None if name == "single" else asdict(mean_of(gap))
        summary[name] = {"fit": asdict(fit), "against_single": against}
    met = any(
        one["against_single"] and one["against_single"]["low"] > 0 for one in summary.values()
    )
    return {
        "bench": "overopt",
        "met": int(met),
        "labels": size.labels,
        "flipped": NOISE,
        "prompts": size.prompts,
        "rows": rows,
        "readings": summary,
    }


def readings() -> dict[str, list[Reading]]:
    """By name; the single model is each member in turn."""

    def member(k: int) -> Reading:
        return lambda marks: marks[k]

    return {
        "single": [member(k) for k in range(MEMBERS)],
        **{name: [reading] for name, reading in READINGS.items()},
    }


def marks(one: Answers, proxy: Reading) -> list[float]:
    return [proxy(scores) for scores in one.members]


def gold(one: Answers, proxy: Reading, n: int) -> float:
    return best_of_n.expected(marks(one, proxy), one.gold, n)


def mean_kl(found: Mapping[str, Answers], proxies: Sequence[Reading], n: int) -> float:
    return fmean(
        best_of_n.kl_of_samples(one.texts, marks(one, proxy), n)
        for one in found.values()
        for proxy in proxies
    )


def mean_of(values: Mapping[str, float]) -> Interval:
    def figure(rows: Sequence[Sequence[float]]) -> float:
        return fmean(row[0] for row in rows)

    found = over_groups({key: [value] for key, value in values.items()}, figure)
    assert found is not None, "there are prompts"
    return found
