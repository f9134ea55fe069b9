"""Bradley-Terry by two heads, of which one takes what length explains and is not read at use.

Both read the same hidden state and learn from the votes by their sum (ODIN, arXiv:2402.07319). To
the mean loss of a step's batch is added

    apart (|corr(length, quality)| + 1 - corr(length, length head)) + orthogonal |cos(W_q, W_l)|

Scores are only known up to a shift per prompt, so the correlations are of differences within
pairs: in tokens and in scores, weighed as the votes are. They are of all the pairs of an optimiser
step, however it is cut into micro-batches; fewer than some 16 pairs make them noisy, and a single
pair has none. What people do like in longer answers is lost with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import logsigmoid
from align.knobs import knob
from align.objective import Objective, Said

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-12  # sum of squares below which nothing varies


@dataclass(frozen=True, kw_only=True)
class LengthDecorrelated(Objective):
    """Its values (R, 2) are quality and length."""

    title: ClassVar[str] = "Bradley-Terry, length taken by a head of its own"
    by_step: ClassVar[bool] = True
    head_rate: ClassVar[float] = 10.0  # both directions are the head's own to find
    start: ClassVar[float] = 0.1  # what does not vary has no correlation

    apart: float = knob(
        1.0, "Weight of the heads' correlations with length: one's to be 0, one's 1.", at_least=0
    )
    orthogonal: float = knob(1.0, "Weight of the cosine of the heads' weights.", at_least=0)
    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)

    def width(self, criteria: Sequence[str]) -> int:
        return 2

    def loss(self, values: Tensor, said: Said) -> Tensor:
        pairs, scores = said.preferences, values.sum(1)
        first, second = scores[pairs.i], scores[pairs.j]
        ahead = first - second
        if pairs.margin is not None:
            ahead = ahead - pairs.margin
        won = -pairs.p * logsigmoid(ahead)
        lost = -(1 - pairs.p) * logsigmoid(-ahead)
        return won + lost + self.centring * (first + second) ** 2

    def sums(self, values: Tensor, said: Said) -> Tensor:
        """Products of pairs' differences in tokens, quality and length head, (3, 3), in fp64."""
        pairs, tokens = said.preferences, said.tokens
        assert tokens is not None, "answers without their lengths"
        apart = values.double().new_zeros(len(pairs.i), 3)
        apart[:, 0] = tokens[pairs.i] - tokens[pairs.j]
        apart[:, 1:] = (values[pairs.i] - values[pairs.j]).double()
        products: Tensor = (pairs.weight[:, None] * apart).T @ apart
        return products

    def penalty(self, sums: Tensor, weight: Tensor) -> Tensor:
        quality, length = weight
        cosine = (quality @ length) / (quality.norm() * length.norm()).clamp(min=LEAST)
        apart = self.correlation(sums, 1).abs() + 1 - self.correlation(sums, 2)
        found: Tensor = self.apart * apart + self.orthogonal * cosine.abs()
        return found

    def step_figures(self, sums: Tensor) -> dict[str, float]:
        return {
            "length/quality": self.correlation(sums, 1).item(),
            "length/length": self.correlation(sums, 2).item(),
        }

    @staticmethod
    def correlation(sums: Tensor, head: int) -> Tensor:
        """Of a head's differences with those in tokens, (); 0 where either does not vary."""
        scale = sums[0, 0] * sums[head, head]
        return sums[0, head] / scale.clamp(min=LEAST).sqrt() * (scale > LEAST)
