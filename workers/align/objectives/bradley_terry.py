"""Bradley-Terry reward model: P(y > y') = sigmoid(r(y) - r(y')) (arXiv:2203.02155).

Soft vote shares enter as labels. Scores are only identified up to a shift per prompt, so a small
penalty on (r + r')^2 centres them (arXiv:2312.09244).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import logsigmoid
from align.knobs import knob
from align.objective import Objective, Preferences

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BradleyTerry(Objective):
    title: ClassVar[str] = "Bradley-Terry"

    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)

    def loss(self, scores: Tensor, preferences: Preferences) -> Tensor:
        first, second = scores[preferences.i], scores[preferences.j]
        margin = first - second
        won = -preferences.p * logsigmoid(margin)
        lost = -(1 - preferences.p) * logsigmoid(-margin)
        return won + lost + self.centring * (first + second) ** 2
