"""Two answers that members of the last reward model call best, for nine in ten: double Thompson.

A member drawn by chance names its best answer, and members are drawn until one names another; after
30 that do not, the other is the one that compares least surely with the first. So good answers stay
in view, which serves finding the best one more than learning what people like. One prompt in ten
gets a random pair; in a first round all do.
"""

from __future__ import annotations

from plumbline.collect import shares, thompson
from plumbline.collect.strategy import Batch, Picked, Strategy

SHARE = 0.9  # of the prompts


class Thompson(Strategy):
    title = "Two that members of the reward model call best (double Thompson)"
    needs = frozenset({"members"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        by_chance = {"thompson": (SHARE, lambda prompt: thompson.odds(batch, prompt))}
        return shares.deal(batch, {}, by_chance)
