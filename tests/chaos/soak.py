"""`make soak [SOAK="points streams load story"] [SEED=n]`: a night of faults, in parts.

points   an order at every failpoint in the code under five seeds, each a story that goes on until
         somebody has come to every one of them; no place has the same order twice. Places that
         nobody came to are named, and `met` wants none. Then 1,000 flipped bits and 64 truncations
         of a checkpoint; within 60 minutes
streams  100 promotions under 32 streams, and nothing else goes wrong; within 20 minutes
load     150 votes a second for 30 minutes with a fault every 20 seconds; prints what the machine
         reached; within 40 minutes
story    500 faults over 100,000 commands; within 100 minutes

Each prints a line of JSON, and `met` in it says whether it kept to its goal. The exit status is 1
where anything acknowledged was lost, doubled or mixed; a machine that is too slow is no failure.
`ARGS="--share 0.1"` does a tenth of it all, to try it out.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos import errands, story
from tests.chaos.house import ROOT
from tests.chaos.scene import failpoints
from tests.chaos.schedule import ORDERS, Plan
from tests.chaos.story import Outcome

SEEDS = 5
POINTS_SECONDS = 540.0  # for one story at most
SPOILT = "tests/align/test_spoilt_checkpoints.py"
FAULT_EVERY = 20.0  # seconds
AFTER_A_FAULT = 10.0  # seconds that a platform has to be itself again: votes then are "between"


def points(seed: int, share: float) -> tuple[dict[str, Any], bool]:
    """Every place under every seed; places that no process came to in time are named."""
    places, kept = failpoints(), True
    by_seed: list[dict[str, Any]] = []
    missing: list[str] = []
    orders: Counter[str] = Counter()
    for n in range(max(1, round(SEEDS * share))):
        kinds = _ordered(places, seed, n)
        plan = Plan(seed + n, faults=len(kinds), seconds=POINTS_SECONDS, kinds=kinds, once=True)
        plan.voters, plan.experiments, plan.comparisons = 3, 3, 20_000
        plan.vote_pause, plan.stream_pause = 0.3, 0.5
        outcome = _tell(plan)
        kept &= outcome.verdict.kept
        struck = set(kinds) & set(outcome.places)
        orders.update(name.partition(": ")[2] for name in struck)
        missing += [f"{name} (seed {plan.seed})" for name in kinds if name not in struck]
        line = outcome.line
        told = ("faults", "lost", "doubled", "mixed", "wrong", "unknown", "seconds", "seed")
        by_seed.append({"struck": len(struck), **{name: line[name] for name in told}})
        print(json.dumps(by_seed[-1]), flush=True)
    marked = ["-m", "nightly or not nightly"]
    spoilt = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", SPOILT, *marked], cwd=ROOT, timeout=1800
    )
    found = {"places": len(places), "by_errand": sum(_by_errand(name) for name in places)}
    found |= {"orders": dict(orders), "seeds": by_seed, "never_reached": missing}
    found["spoilt_files_refused"] = spoilt.returncode == 0
    return {**found, "met": kept and not missing}, kept and spoilt.returncode == 0


def _ordered(places: Sequence[str], seed: int, n: int) -> tuple[str, ...]:
    """What happens at each place in the nth story: five orders in five stories."""
    kinds = []
    for place in places:
        orders = list(ORDERS.values())
        random.Random(f"{seed}:{place}").shuffle(orders)
        kinds.append(f"{place}: {orders[n % len(orders)]} there")
    return tuple(kinds)


def _by_errand(place: str) -> bool:
    """Whether a command of an operator's is struck there, and not who serves or works."""
    return place.startswith(errands.PLACES)


def streams(seed: int, share: float) -> tuple[dict[str, Any], bool]:
    plan = Plan(
        seed, faults=0, voters=1, streamers=32, move_pause=0.2, stream_pause=0, launches=False
    )
    wanted = round(100 * share)
    plan.moves, plan.seconds, plan.policies = wanted, 900, 6
    outcome = _tell(plan)
    found = {name: outcome.line[name] for name in ("moves", "streams", "mixed", "wrong", "seconds")}
    found["failed"] = outcome.verdict.counts["streams refused"]
    found["broken_off"] = outcome.verdict.counts["streams unanswered or broken off"]
    met = found["moves"] >= wanted and not found["failed"] and not found["broken_off"]
    return {**found, "met": met and outcome.verdict.kept}, outcome.verdict.kept


def load(seed: int, seconds: float) -> tuple[dict[str, Any], bool]:
    plan = Plan(seed, faults=10**6, seconds=seconds, voters=24, streamers=1, vote_pause=0.0)
    plan.comparisons, plan.move_pause, plan.gap = 300_000, 20.0, (FAULT_EVERY - 4, FAULT_EVERY)
    plan.stream_pause = 1.0  # enough for faults to find answers under way
    outcome = _tell(plan)
    calm = [
        took
        for at, took in outcome.votes
        if not any(0 <= at - fault < AFTER_A_FAULT for fault in outcome.struck_at)
    ]
    p99 = 1000 * statistics.quantiles(calm, n=100)[-1] if len(calm) > 100 else None
    rate = len(outcome.votes) / seconds
    found = {name: outcome.line[name] for name in ("faults", "kinds", "lost", "doubled", "mixed")}
    found |= {"votes": len(outcome.votes), "votes_per_s": round(rate, 1), "seconds": seconds}
    found["p99_between_faults_ms"] = p99 and round(p99)
    met = rate >= 150 and p99 is not None and p99 < 500 and outcome.verdict.kept
    return {**found, "goal": {"votes_per_s": 150, "p99_ms": 500}, "met": met}, outcome.verdict.kept


def whole(seed: int, share: float) -> tuple[dict[str, Any], bool]:
    plan = Plan(seed, seconds=5400 * share, voters=24, vote_pause=0.0, stream_pause=0.5)
    plan.faults, plan.commands, plan.comparisons = (
        round(500 * share),
        round(100_000 * share),
        100_000,
    )
    outcome = _tell(plan)
    done, worked = outcome.line["faults"], outcome.line["commands"]
    enough = done >= plan.faults and worked >= plan.commands
    return {**outcome.line, "met": enough and outcome.verdict.kept}, outcome.verdict.kept


def _tell(plan: Plan) -> Outcome:
    home = Path(tempfile.mkdtemp(prefix="plumbline-soak-"))
    outcome = story.tell(plan, home)
    print(outcome.verdict.words(), flush=True)
    if outcome.verdict.kept:
        shutil.rmtree(home, ignore_errors=True)
    else:
        print(f"Journals and logs are kept in {home}.")
    return outcome


def main(arguments: Sequence[str]) -> int:
    asking = argparse.ArgumentParser(prog="make soak", description=__doc__)
    names = ("points", "streams", "load", "story")
    asking.add_argument("parts", nargs="*", default=[], help="; ".join(names))
    asking.add_argument("--seed", type=int, default=None)
    asking.add_argument("--share", type=float, default=1.0, help="of all that is to be done")
    asked = asking.parse_args(arguments)
    if unknown := set(asked.parts) - set(names):
        asking.error(f"there is no part {', '.join(sorted(unknown))}")
    seed = random.SystemRandom().randrange(10_000) if asked.seed is None else asked.seed
    parts: dict[str, Callable[[], tuple[dict[str, Any], bool]]] = {
        "points": lambda: points(seed, asked.share),
        "streams": lambda: streams(seed, asked.share),
        "load": lambda: load(seed, 1800 * asked.share),
        "story": lambda: whole(seed, asked.share),
    }
    status = 0
    for name in asked.parts or names:
        began = time.monotonic()
        found, kept = parts[name]()
        took = round(time.monotonic() - began)
        print(json.dumps({"soak": name, **found, "seed": seed, "took_s": took}), flush=True)
        status |= not kept
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
