"""Plackett-Luce: a ranking is read from the best down, each place a choice among what is left.

The loss is -sum_k [s_k - logsumexp_{j not yet placed} s_j]. Answers that people called equal share
a place: each is a choice among the same ones, itself and its equals included (Breslow's treatment
of ties). Two answers without a tie give Bradley-Terry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.knobs import knob
from align.objective import Objective, Reads, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PlackettLuce(Objective):
    title: ClassVar[str] = "Plackett-Luce on whole rankings"
    reads: ClassVar[Reads] = "rankings"

    places: int = knob(
        0, "How many places are read, from the best down; 0 is all, 1 the first alone.", at_least=0
    )
    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)

    def loss(self, values: Tensor, said: Said) -> Tensor:
        assert said.rankings is not None
        items, place = said.rankings.items, said.rankings.place
        here = place >= 0  # (N, K)
        scores = values[:, 0][items]
        left = (place[:, None, :] >= place[:, :, None]) & here[:, None, :]  # (N, K, K)
        left = left | ~here[:, :, None]  # where there is no answer, any sum that is finite
        among = scores[:, None, :].masked_fill(~left, float("-inf")).logsumexp(-1)  # (N, K)
        counted = here & (place < self.places) if self.places else here
        chosen = (counted * (among - scores)).sum(1)
        mean = (here * scores).sum(1) / here.sum(1)
        return chosen + 4 * self.centring * mean**2  # of two, the penalty that pairs have
