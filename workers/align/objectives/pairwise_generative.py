"""Pairwise generative preference model: a language model reads both answers and says which.

It is trained on the one token that names the better answer, A or B, in both orders (as RLHFlow's
pair model, arXiv:2405.07863), and the two orders are held to each other by the square of
p(A first) + p(A second) - 1. P(y > y') is the mean over both orders, so that swapping the answers
turns it around exactly; how often the orders agree is logged as `consistency`. That it is to say a
letter at all is learned first, then which: after fewer than some fifty steps a small model may name
one letter in both orders, only less surely where it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.knobs import knob
from align.objective import Forward, Objective, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PairwiseGenerative(Objective):
    """Its values (2 P, 2) are log-probabilities of the tokens A and B over the whole vocabulary:
    row 2 k shows the k-th pair's i as A, row 2 k + 1 shows its j as A."""

    title: ClassVar[str] = "Generative, both answers side by side"
    forward: ClassVar[Forward] = "side_by_side"

    consistency: float = knob(
        1.0, "Weight of the penalty on verdicts that change with the order.", at_least=0
    )

    def loss(self, values: Tensor, said: Said) -> Tensor:
        p = said.preferences.p
        one, other = values[::2], values[1::2]  # (P, 2)
        first = -p * one[:, 0] - (1 - p) * one[:, 1]
        second = -p * other[:, 1] - (1 - p) * other[:, 0]
        apart = (self.says_first(one) + self.says_first(other) - 1) ** 2
        return (first + second) / 2 + self.consistency * apart

    def logit(self, values: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Log-odds (P,) of the mean of both orders; which answers they are of, the rows say."""
        one, other = self.says_first(values[::2]), self.says_first(values[1::2])
        p = ((one + 1 - other) / 2).clamp(1e-6, 1 - 1e-6)
        return p.log() - (1 - p).log()

    def figures(self, values: Tensor, said: Said) -> dict[str, tuple[float, float]]:
        one, other = self.says_first(values[::2]), self.says_first(values[1::2])
        weight = said.preferences.weight
        agree = ((one > 0.5) == (other < 0.5)) * weight
        return {"consistency": (agree.sum().item(), weight.sum().item())}

    @staticmethod
    def says_first(values: Tensor) -> Tensor:
        """P(A) of the two labels, (P,)."""
        return (values[:, 0] - values[:, 1]).sigmoid()
