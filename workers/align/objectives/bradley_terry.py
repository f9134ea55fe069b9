"""Bradley-Terry reward model: P(y > y') = sigmoid(r(y) - r(y')) (arXiv:2203.02155).

Soft vote shares enter as labels. Scores are only identified up to a shift per prompt, so a small
penalty on (r + r')^2 centres them (arXiv:2312.09244). How much better people called an answer may
ask for a margin between the scores (Llama 2, arXiv:2307.09288; dropped in Llama 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import logsigmoid
from align.knobs import knob
from align.objective import Objective, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BradleyTerry(Objective):
    title: ClassVar[str] = "Bradley-Terry"

    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)
    margin: float = knob(
        0.0,
        "By how much scores are to differ where all votes say much better, in log-odds; a third "
        "of it where they say slightly better.",
        at_least=0,
    )

    @property
    def start(self) -> float:
        """As TRL's: behind a head of zeros the backbone learns nothing at first."""
        return 1.0

    def loss(self, values: Tensor, said: Said) -> Tensor:
        pairs, scores = said.preferences, values[:, 0]
        first, second = scores[pairs.i], scores[pairs.j]
        ahead = first - second
        if pairs.margin is not None:
            ahead = ahead - pairs.margin
        if self.margin and pairs.strength is not None:
            ahead = ahead - self.margin * pairs.strength
        won = -pairs.p * logsigmoid(ahead)
        lost = -(1 - pairs.p) * logsigmoid(-ahead)
        return won + lost + self.centring * (first + second) ** 2
