"""Rao-Kupper: a tie is an outcome of its own, likely where scores differ by little.

With a = log nu: P(win) = sigmoid(d - a), P(loss) = sigmoid(-d - a), and a tie has the rest,
(nu^2 - 1) P(win) P(loss) (Rao and Kupper 1967; for language models arXiv:2409.17431). At nu = 1
there are no ties, and a vote for one counts half for each side, as in Bradley-Terry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import logsigmoid
from align.knobs import knob
from align.objective import Objective, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RaoKupper(Objective):
    title: ClassVar[str] = "Rao-Kupper, with ties"

    nu: float = knob(3.0, "How wide a tie is; at 3 equal answers tie half of the time.", at_least=1)
    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)

    def loss(self, values: Tensor, said: Said) -> Tensor:
        pairs, scores = said.preferences, values[:, 0]
        first, second = scores[pairs.i], scores[pairs.j]
        width = math.log(self.nu)
        won, lost = logsigmoid(first - second - width), logsigmoid(second - first - width)
        centred = self.centring * (first + second) ** 2
        if pairs.tie is None or width == 0:
            return -pairs.p * won - (1 - pairs.p) * lost + centred
        half = pairs.tie / 2
        even = won + lost + math.log(self.nu**2 - 1)
        return -(pairs.p - half) * won - (1 - pairs.p - half) * lost - pairs.tie * even + centred
