"""Pairs that together tell a reward model most, for nine in ten: greedy D-optimal design.

Each is the one whose vote shrinks most what earlier votes and the pairs before it leave open of a
linear reward, in the features of the last reward model, or in a first round of the base: what is
like a pair that was asked about tells less. It weighs prompts against each other, so that of more
prompts than people can compare it takes those that teach most. No kind of prompt has more than
twice its share. One prompt in ten gets a random pair.
"""

from __future__ import annotations

from plumbline.collect import informed, shares
from plumbline.collect.strategy import Batch, Picked, Strategy

AT_RANDOM = 0.1  # of the prompts


class Design(Strategy):
    title = "Those that together teach most (D-optimal)"
    needs = frozenset({"members", "features"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        return shares.deal(
            batch,
            informed.by_design(batch),
            {"random": (AT_RANDOM, shares.at_random(batch))},
        )
