"""Mixture of tastes: K heads on the backbone, and a gate on the prompt that shares them out.

    p(y1 > y2 | x) = sum_k pi_k(x) sigmoid(r_k(y1) - r_k(y2)),    pi = softmax of K numbers of x

(MiCRo, arXiv:2505.24846; its formulas are as the abstract and secondary notes have them.) The gate
is read at the prompt's last token, the heads at the answer's. Where raters are known, each vote's
pi is the gate's times what its rater's other votes say of the heads (`align.gpu.tastes`): single
votes alone could not tell two opposite tastes from no taste. A mean share per head that collapses
is pushed back by balance * (log K - entropy). With one head this is Bradley-Terry.
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
class Mixture(Objective):
    """Its values (R, 2K) are each head's reward, then the gate's numbers; (R, 1) of one head."""

    title: ClassVar[str] = "Mixture of tastes (MiCRo)"
    by_step: ClassVar[bool] = True
    by_rater: ClassVar[bool] = True

    heads: int = knob(2, "How many tastes there may be; 1 is Bradley-Terry.", at_least=1, at_most=8)
    balance: float = knob(
        0.05, "Weight of the penalty on heads that no prompt is given to.", at_least=0
    )
    centring: float = knob(0.01, "Weight of the penalty that keeps scores near zero.", at_least=0)

    @property
    def start(self) -> float:
        return 1.0

    @property
    def asked(self) -> int:
        return self.heads if self.heads > 1 else 0

    def width(self, criteria: Sequence[str]) -> int:
        return self.heads + self.asked

    def loss(self, values: Tensor, said: Said) -> Tensor:
        pairs, rewards = said.preferences, self.rewards(values)
        first, second = rewards[pairs.i], rewards[pairs.j]  # (P, K)
        ahead = first - second
        if pairs.margin is not None:
            ahead = ahead - pairs.margin[:, None]
        gate = self.gate(values, pairs.tastes, pairs.i)
        won = -pairs.p * (gate + logsigmoid(ahead)).logsumexp(1)
        lost = -(1 - pairs.p) * (gate + logsigmoid(-ahead)).logsumexp(1)
        return won + lost + self.centring * (gate.exp() * (first + second) ** 2).sum(1)

    def sums(self, values: Tensor, said: Said) -> Tensor:
        """The weight of all pairs, and of each head's share of it, (K + 1,), in fp64."""
        pairs = said.preferences
        weight = pairs.weight.double()
        shares = self.gate(values)[pairs.i].exp().double()  # (P, K)
        found = weight.new_zeros(self.heads + 1)
        found[0] = weight.sum()
        found[1:] = weight @ shares
        return found

    def penalty(self, sums: Tensor, weight: Tensor) -> Tensor:
        share = sums[1:] / sums[0].clamp(min=1e-12)
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        return self.balance * (math.log(self.heads) - entropy)

    def score(self, values: Tensor, field: Tensor) -> Tensor:
        """The gate's mean of the heads' rewards."""
        return self.routed(values)

    def routed(self, values: Tensor, tastes: Tensor | None = None) -> Tensor:
        """The same (R,) for whoever has these shares of the heads (K,)."""
        rows = None if tastes is None else tastes.expand(len(values), -1)
        return (self.gate(values, rows).exp() * self.rewards(values)).sum(1)

    def logit(self, values: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return self.log_odds(values, i, j)

    def log_odds(
        self, values: Tensor, i: Tensor, j: Tensor, tastes: Tensor | None = None
    ) -> Tensor:
        """Log-odds (P,) that answer i is preferred to j, by raters with these shares (P, K)."""
        rewards, gate = self.rewards(values), self.gate(values, tastes, i)
        ahead = rewards[i] - rewards[j]
        won = (gate + logsigmoid(ahead)).logsumexp(1)
        return won - (gate + logsigmoid(-ahead)).logsumexp(1)

    def rewards(self, values: Tensor) -> Tensor:
        """Each head's, (R, K)."""
        return values[:, : self.heads]

    def gate(
        self, values: Tensor, tastes: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """Logarithms of the heads' shares (R, K), or of the rows `at` (P, K), times `tastes`."""
        logits = values[:, self.heads :] if self.asked else values[:, :1] * 0
        if at is not None:
            logits = logits[at]
        if tastes is not None and self.asked:
            logits = logits.log_softmax(1) + tastes.clamp(min=1e-6).log()
        return logits.log_softmax(1)

    def figures(self, values: Tensor, said: Said) -> dict[str, tuple[float, float]]:
        """Each head's share of the prompts; where raters are known, how often the heads that
        their other votes point to agree with them."""
        pairs = said.preferences
        if not len(pairs.i):
            return {}
        weight, shares = pairs.weight, self.gate(values, None, pairs.i).exp()
        total = weight.sum().item()
        found = {
            f"share {k}": ((weight * shares[:, k]).sum().item(), total) for k in range(self.heads)
        }
        if pairs.tastes is None:
            return found
        ahead = self.log_odds(values, pairs.i, pairs.j, pairs.tastes)
        decided = weight * (pairs.p != 0.5)
        right = (1 + ahead.sign() * (pairs.p - 0.5).sign()) / 2
        return {**found, "routed": ((decided * right).sum().item(), decided.sum().item())}
