"""`make bench NAME=reward`: training a reward model against TRL's RewardTrainer, in the same run.

Bradley-Terry on pairs with the same penalty on scores far from zero. The last line on stdout is the
result as JSON; `ratio` is useful tokens per CPU second, ours over TRL's in bf16 without activation
checkpointing, full weights of the tiny shape.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.speed import cases
from tests.bench.speed.cases import Bench, Case

CASES = {
    "tiny-full": Case("tiny", "full", 9, 8, 8, {"tuned": 2.0, "defaults": 2.0}),
    "tiny-lora": Case("tiny", "lora", 9, 8, 8, {"tuned": 2.0}),
    "tiny-ranked": Case("tiny", "full", 4, 28, 7, {"tuned": 2.0}, answers=8),
    "m125-full": Case("m125", "full", 4, 4, 4, {"tuned": 2.0}),
    "q05-full": Case("q05", "full", 12, 16, 16, {"tuned": 2.0}),
    "q15-lora": Case("q15", "lora", 8, 8, 8, {"tuned": 2.0}),
}
BENCH = Bench(
    "reward",
    CASES,
    usual=("tiny-full", "tiny-lora", "tiny-ranked", "m125-full"),
    quick=("tiny-full",),
)


def main(arguments: Sequence[str]) -> None:
    cases.main(BENCH, __doc__, arguments)
