"""One pair per prompt, all pairs equally likely: no bias; the yardstick of other strategies."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from random import Random

from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Picked, Strategy


class RandomPair(Strategy):
    def choose(
        self, answers: Sequence[Completion], rng: Random, known: Known = NOTHING
    ) -> list[Picked]:
        first, second = rng.sample(answers, 2)
        return [Picked((first, second), p_select=1 / comb(len(answers), 2))]
