"""`make bench NAME=round`: one online round, 64 prompts with 4 answers each, against TRL.

Ours samples from an engine process, lets a function judge, trains one epoch and serves the result.
TRL's OnlineDPOTrainer does it in one process, two answers to a prompt at a time, with fp32 weights
and again with bf16 ones, which sample faster and lose small updates; the last side samples with
transformers' `generate` and trains with DPOTrainer. Starting up is not counted for anybody. `ratio`
is OnlineDPOTrainer's CPU seconds over ours. `ARGS="--vllm PYTHON --mode lora"` samples from vLLM,
whose environment PYTHON belongs to.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.speed import cases, contest, shapes
from tests.bench.speed.contest import Report, Side
from tests.bench.speed.work import Work

GOAL = 4.0
PROMPTS, DRAWS, LONGEST = 64, 4, 128
BATCH = 16  # pairs of an optimiser step
ENDINGS = 128  # one word in so many ends an answer: a third of them reaches LONGEST


def work(name: str, mode: Any, prompts: int, folder: Path) -> Work:
    """Prompts are what it is for; the answers in it are not used."""
    shape = shapes.SHAPES[name].ending_early(shapes.SHAPES[name].vocabulary // ENDINGS)
    return Work(
        base=str(shapes.build(shape, folder)),
        vocabulary=shape.vocabulary,
        steps=prompts // BATCH,
        batch=BATCH,
        at_once=BATCH,
        mode=mode,
    )


def seconds(reports: Sequence[Report]) -> dict[str, Any]:
    """One side's seconds, in all and by stage (medians), and what it sampled."""
    stages = reports[0]["stages"]
    return {
        "cpu_seconds": contest.spread([one["whole"]["cpu"] for one in reports]),
        "seconds": contest.spread([one["whole"]["wall"] for one in reports]),
        "stages": {
            name: contest.significant(
                statistics.median(one["stages"][name]["cpu"] for one in reports)
            )
            for name in stages
        },
        "sampled_tokens": contest.spread([one["tokens"] for one in reports]),
        "rss_gib": contest.spread([one["rss_gib"] for one in reports]),
    }


def ratio(ours: Sequence[Report], theirs: Sequence[Report], kind: str) -> dict[str, float]:
    """Theirs over ours: of the medians, with the rounds' own range."""
    mine, other = ([one["whole"][kind] for one in side] for side in (ours, theirs))
    each = [b / a for a, b in zip(mine, other, strict=True)]
    middle = statistics.median(other) / statistics.median(mine)
    return {**contest.spread(each), "median": contest.significant(middle)}


def main(arguments: Sequence[str]) -> None:
    asking = cases.parser("round", __doc__)
    asking.add_argument("--shape", choices=shapes.SHAPES, default="tiny")
    asking.add_argument("--mode", choices=("full", "lora"), default="full")
    asking.add_argument("--vllm", metavar="PYTHON", help="sample from vLLM")
    asking.add_argument("--settings", default="tuned", help="TRL's")
    asked = cases.read(asking, arguments)
    if asked.vllm and asked.mode == "full":
        asking.error("vLLM takes no full weights while it runs; add --mode lora")
    started, machine = time.monotonic(), contest.machine(asked.threads)
    prompts = 16 if asked.quick else PROMPTS
    options = {
        **work(asked.shape, asked.mode, prompts, asked.folder).options(),
        "draws": DRAWS,
        "max_tokens": LONGEST,
        "vllm": asked.vllm,
        "settings": asked.settings,
    }
    sides = {
        "ours": Side("ours", "rounds:product", options),
        "trl_online": Side("TRL OnlineDPO", "rounds:trl_online", options),
        "trl_online_bf16_weights": Side(
            "TRL OnlineDPO, bf16 weights",
            "rounds:trl_online",
            {**options, "settings": "bf16 weights"},
        ),
        "generate_then_dpo": Side("generate, DPO", "rounds:transformers_then_dpo", options),
    }
    rounds = asked.rounds or (1 if asked.quick else 5)
    log = asked.folder / "round.jsonl"
    reports = contest.measure(list(sides.values()), rounds, asked.threads, log)
    found = {name: reports[side.name] for name, side in sides.items()}
    ratios = {
        name: {kind: ratio(found["ours"], found[name], kind) for kind in ("cpu", "wall")}
        for name in sides
        if name != "ours"
    }
    headline = ratios["trl_online"]["cpu"]["median"]
    print(
        json.dumps(
            {
                "bench": "round",
                "ratio": headline,
                "of": "CPU seconds of a round, TRL's OnlineDPOTrainer over ours",
                "goal": GOAL,
                "met": headline >= GOAL,
                "ratios": ratios,
                "sides": {name: seconds(side) for name, side in found.items()},
                "shape": asked.shape,
                "mode": asked.mode,
                "engine": "vllm" if asked.vllm else "embedded",
                "prompts": prompts,
                "draws": DRAWS,
                "rounds": rounds,
                "peer": contest.peer(),
                "machine": machine,
                "seconds": round(time.monotonic() - started),
            }
        )
    )
