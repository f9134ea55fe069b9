"""`make bench NAME=train`: preference training against TRL's DPOTrainer, in the same run.

Random weights, lengths of real data, one thread unless told otherwise. The last line on stdout is
the result as JSON; `ratio` is useful tokens per CPU second, ours over TRL's at its best settings,
full weights of the tiny shape. `ARGS="--cases m125-lora --rounds 3"` measures what is named.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.speed import cases
from tests.bench.speed.cases import Bench, Case

CASES = {
    "tiny-full": Case("tiny", "full", 9, 8, 8, {"tuned": 2.8, "defaults": 3.5}),
    "tiny-lora": Case("tiny", "lora", 9, 8, 8, {"tuned": 3.0}),
    # Eight ranked answers are 28 pairs, an optimiser step; TRL takes them 7 at a time.
    "tiny-ranked": Case("tiny", "full", 4, 28, 7, {"tuned": 5.0}, answers=8),
    "m125-full": Case("m125", "full", 4, 2, 2, {"tuned": 2.5, "defaults": 3.3}),
    "m125-lora": Case("m125", "lora", 4, 2, 2, {"tuned": 3.0}),
    # For a GPU; on a CPU each takes many minutes.
    "q05-full": Case("q05", "full", 12, 16, 16, {"tuned": 2.0}),
    "q05-lora": Case("q05", "lora", 12, 16, 16, {"tuned": 2.0}),
    "q05-ranked": Case("q05", "full", 6, 28, 28, {"tuned": 5.0}, answers=8),
    "q15-full": Case("q15", "full", 8, 8, 8, {"tuned": 2.0}),
    "q15-lora": Case("q15", "lora", 8, 8, 8, {"tuned": 2.0}),
}
BENCH = Bench(
    "train",
    CASES,
    usual=("tiny-full", "tiny-lora", "tiny-ranked", "m125-full", "m125-lora"),
    quick=("tiny-full", "tiny-ranked"),
)


def main(arguments: Sequence[str]) -> None:
    cases.main(BENCH, __doc__, arguments)
