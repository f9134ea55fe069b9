"""`make bench NAME=overopt`: how far a reward model can be followed, alone and as an ensemble.

As in Coste et al. (arXiv:2310.02743): votes with 25 % turned around at random train reward models
that differ in their seed; answers are picked, and policies trained by DPO, by one of them or by a
reading of all; the gold utility judges. The last line on stdout is the result as JSON; `met` is 1
when, at the largest n and after the last round, the gold of the reading that was chosen beforehand
lies above the single model's with 95 % intervals apart. What was computed is kept, and a bench that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.quality import page

if TYPE_CHECKING:
    from tests.bench.quality.followed import Rounds
    from tests.bench.quality.proxies import Recipe

CHOSEN = "worst case"  # the reading that `met` is about: the best of 256 on worlds 11 to 15


@dataclass(frozen=True)
class Size:
    """How much is run: the best of up to `answers` by prompt, `spare` times as many drawn so that
    the estimate is steady. Each prompt is judged in `each` of the seeds' worlds, and in the first
    `followed` of them policies are trained; `rounds` and `recipe` are changes to their defaults."""

    seeds: tuple[int, ...]
    labels: int
    prompts: int
    answers: int
    each: int = 1
    spare: int = 1
    rounds: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    followed: int = 5


FULL = Size((16, 17, 18, 19, 20), 800, 180, 256, 3, 2)  # settings were chosen on other seeds
QUICK = Size(
    (1,),
    120,
    16,
    32,
    1,
    1,
    {"rounds": 2, "questions": 24, "candidates": 3, "alone": 1, "heldout": 16, "answers": 2},
    {"members": 3, "doubted": 30, "epochs": 1},
)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench NAME=overopt", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything, minutes")
    parser.add_argument("--folder", type=Path, default=Path(".plumbline/bench/overopt"))
    parser.add_argument("--docs", type=Path, help="write the tables and the pictures here as well")
    asked = parser.parse_args(arguments)
    started = time.process_time()
    result = measure(asked.folder.resolve(), QUICK if asked.quick else FULL)
    result["cpu_seconds"] = round(time.process_time() - started)
    if asked.docs:
        page.write(asked.docs, "overopt", page.overopt_tables(result), "Gold gain against KL")
        page.draw(asked.docs, "overopt", page.overopt_picture(result))
    print(json.dumps(page.plain(result)))


def measure(folder: Path, size: Size) -> dict[str, Any]:
    """Train the members of every seed's world, then pick by them, then follow them."""
    import torch

    from tests.bench.alignment import world
    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop
    from tests.bench.quality import best_of, followed, proxies

    torch.set_num_threads(1)
    workshop = Workshop(folder, Sampler(world.BASE.base))
    recipe = proxies.Recipe(labels=size.labels, **size.recipe)
    rounds = followed.Rounds(**size.rounds)
    worlds = {}
    for seed in size.seeds:
        worlds[seed] = proxies.train(workshop, seed, recipe)
        print(f"seed {seed}: {recipe.members} members", file=sys.stderr, flush=True)
    questions = world.heldout_questions(size.prompts)
    count = size.answers * size.spare
    drawn = best_of.drawn(workshop, list(worlds.values()), questions, count, size.each)
    picked = best_of.report(drawn, size.answers)
    for name, one in picked["readings"].items():
        print(f"best of {size.answers}, {name}: {one['gold']}", file=sys.stderr, flush=True)
    some = {seed: worlds[seed] for seed in size.seeds[: size.followed]}
    runs = list(followed.everything(workshop, some, rounds))
    return report(picked, followed.report(runs), recipe, rounds)


def report(
    picked: dict[str, Any], trained: dict[str, Any], recipe: Recipe, rounds: Rounds
) -> dict[str, Any]:
    parts = (picked["readings"][CHOSEN], trained["readings"][CHOSEN])
    return {
        "bench": "overopt",
        "met": int(all(part["apart"] for part in parts)),
        "apart": [part["apart"] for part in parts],
        "paired": [part["paired"] for part in parts],
        "chosen": CHOSEN,
        "recipe": asdict(recipe),
        "rounds_recipe": asdict(rounds),
        "best_of_n": picked,
        "rounds": trained,
    }
