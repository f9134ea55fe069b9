"""The pairs on whose margin the last reward model's members vary most, for nine in ten.

The variance of the difference of the two scores over members, as PrefPPO asks. Unlike the
information of a vote it also asks about pairs whose order all members are sure of. One prompt in
ten gets a random pair; in a first round all do.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.collect import informed, shares
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Batch, Known, Picked, Strategy

AT_RANDOM = 0.1  # of the prompts


class Variance(Strategy):
    title = "Those whose margin varies most over the reward model's members"
    needs = frozenset({"members"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        return shares.deal(
            batch,
            informed.by_score(batch, informed.spread),
            {"random": (AT_RANDOM, shares.at_random(batch))},
        )

    def worth(self, known: Known, pair: Sequence[Completion]) -> float | None:
        return informed.worth(known, pair, informed.spread)
