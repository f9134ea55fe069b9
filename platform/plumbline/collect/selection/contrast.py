"""Half of the votes go to two answers that the base model contradicts equally and that differ most.

Most pairs of samples differ in whether they are right, and drown what else people like. The other
half are random pairs, which say what being right is worth, and give every pair a chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Need, Picked, Strategy, mostly

SHARE = 0.5  # of the prompts


class Contrast(Strategy):
    needs: ClassVar[Need] = "contrast"

    def choose(
        self, answers: Sequence[Completion], rng: Random, known: Known = NOTHING
    ) -> list[Picked]:
        return mostly(known.contrast, SHARE, answers, rng)
