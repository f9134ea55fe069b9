"""The pairs that the last reward model is least sure of, for nine in ten.

The entropy of the vote that its members foretell together. It does not tell doubt from a toss-up,
and yet was the most accurate of all on the demo's simulated raters, over ten seeds. One prompt in
ten gets a random pair; in a first round all do.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.collect import informed, shares
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Batch, Known, Picked, Strategy

AT_RANDOM = 0.1  # of the prompts


class Uncertainty(Strategy):
    title = "Those that the reward model is least sure of"
    needs = frozenset({"members"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        return shares.deal(
            batch,
            informed.by_score(batch, informed.doubt),
            {"random": (AT_RANDOM, shares.at_random(batch))},
        )

    def worth(self, known: Known, pair: Sequence[Completion]) -> float | None:
        return informed.worth(known, pair, informed.doubt)
