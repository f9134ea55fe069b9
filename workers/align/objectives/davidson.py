"""Davidson: a tie is an outcome of its own, as likely as the geometric mean of the two others says.

With D = 1 + e^-d + 2 nu e^(-d/2): P(win) = 1 / D, P(loss) = e^-d / D, P(tie) = 2 nu e^(-d/2) / D
(Davidson 1970; for language models arXiv:2409.17431). At nu = 0 there are no ties, and a vote for
one counts half for each side, as in Bradley-Terry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.knobs import knob
from align.objective import Objective, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Davidson(Objective):
    title: ClassVar[str] = "Davidson, with ties"

    nu: float = knob(
        1.0, "How likely ties are; at 1 equal answers tie half of the time.", at_least=0
    )
    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)

    def loss(self, values: Tensor, said: Said) -> Tensor:
        pairs, scores = said.preferences, values[:, 0]
        first, second = scores[pairs.i], scores[pairs.j]
        ahead = first - second
        total = (-ahead).logaddexp(ahead.new_zeros(()))  # log D
        half = pairs.tie / 2 if pairs.tie is not None else pairs.p * 0
        even = 0 * ahead
        if self.nu:
            even = math.log(2 * self.nu) - ahead / 2
            total = total.logaddexp(even)
        else:
            half = half * 0
        lost = 1 - pairs.p - half  # of the votes; D's first term is a win's, whose log is 0
        return total + lost * ahead - 2 * half * even + self.centring * (first + second) ** 2
