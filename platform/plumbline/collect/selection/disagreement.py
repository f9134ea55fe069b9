"""The pairs whose order the last reward model's members disagree on most, for nine in ten.

What a vote on a pair would tell of the members is its information (BALD): the entropy of their mean
verdict less the mean entropy of theirs. Pairs that all call a toss-up have none, however close. One
prompt in ten gets a random pair, for figures that no model chose. In a first round there are no
members yet, and all pairs are random.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.collect import informed, shares
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Batch, Known, Picked, Strategy

AT_RANDOM = 0.1  # of the prompts


class Disagreement(Strategy):
    title = "Those that the reward model's members disagree on"
    needs = frozenset({"members"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        return shares.deal(
            batch,
            informed.by_score(batch, informed.information),
            {"random": (AT_RANDOM, shares.at_random(batch))},
        )

    def worth(self, known: Known, pair: Sequence[Completion]) -> float | None:
        return informed.worth(known, pair, informed.information)
