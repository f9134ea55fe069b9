"""General preference model: a vector for each answer instead of a number (arXiv:2410.02197).

    log-odds of y over y' = sum_b (v_b(y) x v_b(y')) / temperature,   (a x b) = a_0 b_1 - a_1 b_0

over pairs b of coordinates. It is antisymmetric by construction and holds tastes that go in a
circle, which no score can: one pair of coordinates fits any preferences among three answers. As a
reward an answer gets its mean log-odds against the answers that the model was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import logsigmoid
from align.knobs import knob
from align.objective import Objective, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GeneralPreference(Objective):
    title: ClassVar[str] = "General preference embedding"
    relative: ClassVar[bool] = True
    planes: int = knob(
        2, "Pairs of coordinates; one holds a single circle of tastes.", at_least=1, at_most=64
    )
    temperature: float = knob(
        1.0,
        "What log-odds are divided by. Vectors are not of unit length, so a low one only makes "
        "steps larger: at 0.1 and common learning rates training is unsteady.",
        above=0,
    )

    @property
    def start(self) -> float:
        """Log-odds of two answers then have a spread of 1: at zero the loss has no slope, near it
        hardly one, and a circle is not found; far from it the model starts sure of anything."""
        return math.sqrt(self.temperature / math.sqrt(2 * self.planes))

    def width(self, criteria: Sequence[str]) -> int:
        return 2 * self.planes

    def loss(self, values: Tensor, said: Said) -> Tensor:
        pairs = said.preferences
        ahead = self.logit(values, pairs.i, pairs.j)
        if pairs.margin is not None:
            ahead = ahead - pairs.margin
        return -pairs.p * logsigmoid(ahead) - (1 - pairs.p) * logsigmoid(-ahead)

    def score(self, values: Tensor, field: Tensor) -> Tensor:
        return self._over(values, field.expand_as(values))

    def logit(self, values: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return self._over(values[i], values[j])

    def _over(self, first: Tensor, second: Tensor) -> Tensor:
        """Log-odds (P,) of one row's answers over the other's, vectors (P, 2 * planes)."""
        across = first[:, ::2] * second[:, 1::2] - first[:, 1::2] * second[:, ::2]
        return across.sum(1) / self.temperature
