"""One answer of each of two draws: for algorithms that learn from comparing two policies' answers.

With a single draw there is no other side, and nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random

from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Picked, Strategy


class Across(Strategy):
    def choose(
        self, answers: Sequence[Completion], rng: Random, known: Known = NOTHING
    ) -> list[Picked]:
        draws: dict[object, list[Completion]] = {}
        for answer in answers:
            draws.setdefault(answer.batch, []).append(answer)
        if len(draws) < 2:
            return []
        first, second = rng.sample(list(draws.values()), 2)
        pairs = list(product(first, second))
        return [Picked(rng.choice(pairs), p_select=1 / len(pairs))]
