"""Half of the votes go to two answers that the base model contradicts equally and that differ most.

Most pairs of samples differ in whether they are right, and drown what else people like. The other
half are random pairs, which say what being right is worth, and give every pair a chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from random import Random

from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Picked, Strategy

SHARE = 0.5  # of the prompts


class Contrast(Strategy):
    title = "Contrasting ones, for half of the prompts"
    needs = frozenset({"contrast"})

    def choose(
        self, answers: Sequence[Completion], rng: Random, known: Known = NOTHING
    ) -> list[Picked]:
        contrast = known.contrast
        share = SHARE if contrast else 0.0
        at_random = (1 - share) / comb(len(answers), 2)
        if rng.random() < share:
            return [Picked(contrast, p_select=share + at_random)]
        drawn = tuple(rng.sample(answers, 2))
        found = {answer.pk for answer in drawn} == {answer.pk for answer in contrast}
        return [Picked(drawn, p_select=at_random + share * found)]
