"""Gold against KL when DPO follows a reward model round after round: alone, or by a reading.

The rounds are the alignment bench's, without people: fresh answers, the proxy's best against its
worst, DPO with the anchor that the product's rounds have, so that KL rises by a few nats a round.
The proxies stay as they are; retraining them on the policy's own answers is the product's remedy,
and would hide what is asked.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.bench.alignment import world
from tests.bench.alignment.arms import Arm
from tests.bench.alignment.intervals import Interval, across_seeds, difference
from tests.bench.alignment.measure import Ruler
from tests.bench.alignment.rounds import Asked, Course
from tests.bench.alignment.workshop import Workshop, response
from tests.bench.alignment.world import BASE
from tests.bench.quality.proxies import ALONE, Proxies

FIGURES = ("gold_win_rate", "kl", "kl_k3", "relabel_accuracy", "tokens", "distinct")
READINGS = ("worst case",)


@dataclass(frozen=True)
class Rounds:
    """How far policies are taken, and what they are measured on."""

    rounds: int = 5
    questions: int = 240
    candidates: int = 8
    alone: int = 2  # members that are followed alone, each in turn
    beta: float = 0.1
    anchor: float = 10.0  # without it policies run to hundreds of nats, or to one answer
    learning_rate: float = 4e-3
    epochs: int = 3
    heldout: int = 80
    answers: int = 3

    def arm(self) -> Arm:
        return Arm(
            name="Followed",
            knobs={"beta": self.beta, "soft_labels": False},
            prompts=self.questions,
            candidates=self.candidates,
            other_temperature=None,
            selection="random",
            anchor=self.anchor,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=8,
        )


@dataclass(kw_only=True)
class Followed(Course):
    """A course whose answers are scored by one proxy from start to end; nobody votes.

    `reading` names how members are read; the single model's are named by `member`.
    """

    proxies: Proxies
    reading: str
    member: int = 0

    def learn_reward(self) -> tuple[Path, dict[str, Any]]:
        """It is there already."""
        return self.proxies.weights[self.member], {}

    def score(self, judge: Path, asked: list[Asked]) -> list[list[float]]:
        items = [
            {
                "id": f"{i}:{k}",
                "messages": world.messages(one.question),
                "response": response(reply),
            }
            for i, one in enumerate(asked)
            for k, reply in enumerate(one.replies)
        ]
        if self.reading == ALONE:
            found = self.proxies.alone(self.member, items)
        else:
            found = self.proxies.read(self.reading, self.proxies.said(items))
        scores = iter(found)
        return [[next(scores) for _ in one.replies] for one in asked]


def follow(
    workshop: Workshop,
    ruler: Ruler,
    proxies: Proxies,
    seed: int,
    reading: str,
    member: int,
    how: Rounds,
) -> list[dict[str, Any]]:
    """The figures of the base and after each round."""
    start = {"kl": 0.0, "kl_k3": 0.0, **ruler.measure(BASE, seed)}
    course = Followed(
        arm=how.arm(),
        seed=seed,
        workshop=workshop,
        labeller=world.LABELLER,
        votes_per_round=0,
        proxies=proxies,
        reading=reading,
        member=member,
    )
    return list(until_it_collapses(start, lambda: step(course, ruler), how.rounds))


def step(course: Course, ruler: Ruler) -> dict[str, Any]:
    """One round and what became of its policy."""
    figures = course.advance()
    return {**figures, **ruler.measure(course.policy, course.seed)}


def until_it_collapses(
    start: dict[str, Any], advance: Callable[[], dict[str, Any]], rounds: int
) -> Iterator[dict[str, Any]]:
    """The figures at the start and after each round. A round that cannot be made, because a
    policy's answers are all alike or its loss is no number, is the end: the last figures stand for
    it and for what would follow, with the reason as `collapse`."""
    last = start
    yield last
    for _ in range(rounds):
        if "collapse" not in last:
            try:
                last = advance()
            except ValueError as error:
                last = {**last, "collapse": str(error)}
        yield last


def everything(
    workshop: Workshop, worlds: Mapping[int, Proxies], how: Rounds
) -> Iterator[dict[str, Any]]:
    """Every seed's single models in turn and every reading; rounds 0 is the base."""
    for seed, proxies in worlds.items():
        ruler = Ruler(workshop, world.heldout_questions(how.heldout), how.answers)
        for name in (ALONE, *READINGS):
            for member in range(how.alone if name == ALONE else 1):
                rounds = follow(workshop, ruler, proxies, seed, name, member, how)
                start, last = rounds[0], rounds[-1]
                print(
                    f"seed {seed}, {name} {member}: gold {last['gold'] - start['gold']:+.3f} "
                    f"at {last['kl']:.1f} nats {last.get('collapse', '')}",
                    file=sys.stderr,
                    flush=True,
                )
                yield {"seed": seed, "reading": name, "member": member, "rounds": rounds}


def report(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By reading and round, over seeds; the single model is the mean over members of a seed.

    `apart` and `paired` as for the best of n, at the last round, with Student's intervals over
    seeds. `same_kl`: the paired difference at the largest sqrt(KL) that both reached, by straight
    lines between rounds.
    """
    rows: list[dict[str, Any]] = []
    readings: dict[str, dict[str, Any]] = {}
    seeds = sorted({one["seed"] for one in found})
    curves = {
        name: [[one for one in found if (one["reading"], one["seed"]) == (name, seed)]
               for seed in seeds]
        for name in (ALONE, *READINGS)
    }  # fmt: skip
    for name, by_seed in curves.items():
        for number in range(len(found[0]["rounds"])):
            rows.append({"reading": name, "round": number, **figures(by_seed, number)})
        golds = [fmean(gain(run, -1) for run in runs) for runs in by_seed]
        readings[name] = {"gold": asdict(across_seeds(golds)), "by_seed": golds}
        if name == ALONE:
            continue
        single = readings[ALONE]
        gap = difference(golds, single["by_seed"])
        readings[name] |= {
            "against_single": asdict(gap),
            "apart": readings[name]["gold"]["low"] > single["gold"]["high"],
            "paired": gap.low > 0,
            "same_kl": asdict(same_kl(by_seed, curves[ALONE])),
        }
    return {"seeds": len(seeds), "rows": rows, "readings": readings}


def figures(by_seed: Sequence[Sequence[Mapping[str, Any]]], number: int) -> dict[str, Any]:
    gains = [fmean(gain(run, number) for run in runs) for runs in by_seed]
    distances = [fmean(distance(run, number) for run in runs) for runs in by_seed]
    runs = [run for some in by_seed for run in some]
    return {
        "d": fmean(distances),
        "gold": asdict(across_seeds(gains)),
        "runs": len(runs),
        "collapsed": sum("collapse" in run["rounds"][number] for run in runs),
        **{
            name: fmean(run["rounds"][number][name] for run in runs)
            for name in FIGURES
            if name in runs[0]["rounds"][number]
        },
    }


def gain(run: Mapping[str, Any], number: int) -> float:
    return float(run["rounds"][number]["gold"] - run["rounds"][0]["gold"])


def distance(run: Mapping[str, Any], number: int) -> float:
    """sqrt(KL) to the base."""
    return math.sqrt(max(0.0, run["rounds"][number]["kl"]))


def same_kl(
    ours: Sequence[Sequence[Mapping[str, Any]]], single: Sequence[Sequence[Mapping[str, Any]]]
) -> Interval:
    gaps = []
    for mine, alone in zip(ours, single, strict=True):
        reach = min(max(distance(run, k) for k in range(len(run["rounds"])))
                    for run in (*mine, *alone))  # fmt: skip
        gaps.append(fmean(at(run, reach) for run in mine) - fmean(at(run, reach) for run in alone))
    return across_seeds(gaps)


def at(run: Mapping[str, Any], d: float) -> float:
    """The gain where the run first was at a distance of d."""
    places = [(distance(run, k), gain(run, k)) for k in range(len(run["rounds"]))]
    for (near, low), (far, high) in pairwise(places):
        if near <= d <= far:
            return low + (high - low) * (d - near) / (far - near) if far > near else high
    raise AssertionError("every run reaches the distance")
