"""The pools of the bench, each with the plan its votes are asked by.

The ridge of each and its counts were chosen with seeds that are not reported (from 100 on).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench.alignment.sampler import Sampler
from tests.bench.alignment.workshop import Workshop
from tests.bench.alignment.world import BASE
from tests.bench.selecting import pools
from tests.bench.selecting.learning import Plan
from tests.bench.selecting.pools import Pool

PROMPTS, HELD_OUT = 600, 160  # of the simulated raters
JUDGED, JUDGED_APART = 3000, 1000  # pairs of AlpacaEval at most
ALPACA = "alpaca_eval/annotations.jsonl.gz"


def sources(folder: Path, data: Path) -> Iterator[tuple[Pool, Plan]]:
    """Each source that is there."""
    workshop = Workshop(folder, Sampler(BASE.base))
    yield pools.simulated(workshop, PROMPTS, HELD_OUT), Plan()
    if (data / ALPACA).is_file():
        judged = pools.alpaca_eval(data / ALPACA, folder, JUDGED, JUDGED_APART)
        yield judged, Plan(first=4, batch=4, most=64, ridge=3.0)
