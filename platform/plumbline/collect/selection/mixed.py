"""What the reward model doubts most, what may be best, some at random: 7 : 1 : 1 of the prompts.

Seven in nine are the pairs that the last reward model's members are least sure of, one the best
answers of two members (double Thompson), one a random pair, for figures that no model chose. With
the hidden tests and repeats that every person gets this is 70 : 10 : 10 : 10. Where there are no
members, as in a first round, the seven are a D-optimal design in the features of the model or the
base, and what double Thompson would ask is random. Why these shares: docs/labels.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.collect import informed, shares, thompson
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Batch, Known, Picked, Strategy

THOMPSON, AT_RANDOM = 1 / 9, 1 / 9


class Mixed(Strategy):
    title = "A mix: what is in doubt, what may be best, some at random"
    needs = frozenset({"members", "features"})

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        return shares.deal(
            batch,
            informed.by_score(batch, informed.doubt) or informed.by_design(batch),
            {
                "thompson": (THOMPSON, lambda prompt: thompson.odds(batch, prompt)),
                "random": (AT_RANDOM, shares.at_random(batch)),
            },
        )

    def worth(self, known: Known, pair: Sequence[Completion]) -> float | None:
        return informed.worth(known, pair, informed.doubt)
