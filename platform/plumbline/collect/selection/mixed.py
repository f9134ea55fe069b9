"""What together teaches most, what may be best, and some at random: 6 : 2 : 1 of the prompts.

Six in nine are pairs of a D-optimal design whose gains are weighed by how far the last reward
model's members disagree (BALD), two the best answers of two members (double Thompson), one a random
pair, for figures that no model chose. With the hidden tests and repeats that every person gets this
is 60 : 20 : 10 : 10. In a first round the design goes by the base's features alone, and what double
Thompson would ask is random.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.collect import informed, shares, thompson
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Batch, Known, Picked, Strategy

THOMPSON, AT_RANDOM = 2 / 9, 1 / 9


class Mixed(Strategy):
    title = "A mix: what teaches most, what may be best, some at random"
    needs = frozenset({"members", "features"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        return shares.deal(
            batch,
            informed.by_design(batch, informed.information),
            {
                "thompson": (THOMPSON, lambda prompt: thompson.odds(batch, prompt)),
                "random": (AT_RANDOM, shares.at_random(batch)),
            },
        )

    def worth(self, known: Known, pair: Sequence[Completion]) -> float | None:
        return informed.worth(known, pair, informed.information)
