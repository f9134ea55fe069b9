"""DPO - Direct Preference Optimization (arXiv:2305.18290), run iteratively on the policy's answers.

The margin m = beta * (gap under the policy - gap under the reference) is pushed up through
-log sigmoid(m): a Bradley-Terry fit whose reward is the policy's own log-ratio. Label noise is met
in two ways: `conservative` mixes in the flipped label (cDPO), `robust` un-biases the loss for a
known flip rate (arXiv:2403.00409). Soft labels from split votes enter the same formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import Algorithm, Labels, LogProbs, Loss, knob, logsigmoid

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DPO(Algorithm):
    title: ClassVar[str] = "DPO"

    beta: float = knob(0.1, "How strongly the policy is held to its reference.", above=0)
    noise: str = knob(
        "none",
        "How wrong votes are met: not at all, by mixing in the flipped label (conservative), or by "
        "un-biasing the loss for a known flip rate (robust).",
        choices=("none", "conservative", "robust"),
    )
    flip_rate: float = knob(
        0.1, "Share of votes assumed wrong; read unless noise is none.", at_least=0, below=0.5
    )
    soft_labels: bool = knob(
        True, "Use the share of votes as a soft label; off, the majority counts as certain."
    )

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        margin = self.beta * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        losses = self._noisy(margin, self._label(labels.p))
        return Loss(
            losses,
            {
                "rewards/chosen": self.beta * logps.ratio("chosen", "reference"),
                "rewards/rejected": self.beta * logps.ratio("rejected", "reference"),
                "rewards/margins": margin,
                # Strict: at the start, where every margin is 0, nothing has been learned.
                "rewards/accuracies": (margin > 0).to(margin.dtype),
            },
        )

    def _label(self, p: Tensor) -> Tensor:
        """A tie stays a tie; with hard labels any majority is certain."""
        return p if self.soft_labels else (p > 0.5).to(p.dtype) + 0.5 * (p == 0.5).to(p.dtype)

    def _noisy(self, margin: Tensor, p: Tensor) -> Tensor:
        flip = self.flip_rate if self.noise != "none" else 0.0
        if self.noise == "robust":
            won, lost = p - flip, 1 - p - flip
            scale = 1 - 2 * flip
        else:
            p = p * (1 - flip) + (1 - p) * flip
            won, lost, scale = p, 1 - p, 1.0
        return -(won * logsigmoid(margin) + lost * logsigmoid(-margin)) / scale
