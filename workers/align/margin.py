"""Losses of a margin: P(chosen > rejected) = sigmoid(m), with noise, soft labels and ties.

DPO and its relatives differ in how they make the margin out of log-probabilities, and in what they
add; what a vote says of a margin is the same for all of them and lives here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.algorithm import Algorithm, Labels, LogProbs, knob, logsigmoid

if TYPE_CHECKING:
    from torch import Tensor

USUAL = {"rao_kupper": 3.0, "davidson": 1.0}  # either means half ties at a margin of 0


@dataclass(frozen=True, kw_only=True)
class MarginAlgorithm(Algorithm):
    """An algorithm whose loss is the negative log-likelihood of votes on a margin."""

    beta: float = knob(
        0.1,
        "How strongly the policy is held to its reference: a higher beta allows less drift. 0.1 "
        "is TRL's default and the RLHF Workflow's value.",
        above=0,
    )
    noise: str = knob(
        "none",
        "What is done about wrong votes: nothing (none), mixing in the flipped label "
        "(conservative), or correcting the loss so that a known share of wrong votes does not "
        "bias it (robust, arXiv:2403.00409).",
        choices=("none", "conservative", "robust"),
    )
    flip_rate: float = knob(
        0.1,
        "Share of votes taken to be wrong. Only read when noise is not none.",
        at_least=0,
        below=0.5,
    )
    soft_labels: bool = knob(
        True,
        "Train on the share of votes, so that 3 votes against 1 count as 75 %. Off, the "
        "majority is taken as certain.",
    )
    ties: str = knob(
        "soft",
        "How a tie enters the loss: as half a win for each side (soft), or as a third outcome "
        "with a probability of its own under the Rao-Kupper or the Davidson model "
        "(arXiv:2409.17431).",
        choices=("soft", *USUAL),
    )
    tie_strength: float = knob(
        0.0,
        "How common the tie model takes ties to be (its nu). 0 means the usual value, under "
        "which two equal answers tie half of the time: 3 for Rao-Kupper, which needs more than "
        "1, and 1 for Davidson.",
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ties == "rao_kupper" and 0 < self.tie_strength <= 1:
            raise ValueError("tie_strength must be above 1 for the Rao-Kupper model, or 0")

    def likelihood(self, margin: Tensor, labels: Labels) -> Tensor:
        """-log P(votes | margin), (B,) from (B,)."""
        p, flip = self._label(labels.p), self.flip_rate if self.noise != "none" else 0.0
        tie = p.new_zeros(()) if self.ties == "soft" else self._tie(labels)
        won, lost = p - tie / 2, 1 - p - tie / 2
        scale = 1.0
        if self.noise == "robust":
            decided = won + lost
            won, lost, scale = won - flip * decided, lost - flip * decided, 1 - 2 * flip
        elif flip:
            won, lost = won * (1 - flip) + lost * flip, lost * (1 - flip) + won * flip
        first, second, even = self._outcomes(margin)
        return -(won * first + lost * second) / scale - tie * even

    def figures(
        self, logps: LogProbs, margin: Tensor, reference: str = "reference"
    ) -> dict[str, Tensor]:
        """The figures people know from DPO; rewards are implicit ones, beta * log-ratio."""
        return {
            "rewards/chosen": self.beta * logps.ratio("chosen", reference),
            "rewards/rejected": self.beta * logps.ratio("rejected", reference),
            "rewards/margins": margin,
            # Strict: at the start, where every margin is 0, nothing has been learned.
            "rewards/accuracies": (margin > 0).to(margin.dtype),
        }

    def _label(self, p: Tensor) -> Tensor:
        """A tie stays a tie; with hard labels any majority is certain."""
        return p if self.soft_labels else (p > 0.5).to(p.dtype) + 0.5 * (p == 0.5).to(p.dtype)

    def _tie(self, labels: Labels) -> Tensor:
        tie = labels.of("tie")
        return tie if self.soft_labels else (labels.p == 0.5).to(labels.p.dtype)

    def _outcomes(self, margin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of a win, a loss and a tie."""
        if self.ties == "soft":
            return logsigmoid(margin), logsigmoid(-margin), margin.new_zeros(())
        nu = self.tie_strength or USUAL[self.ties]
        if self.ties == "rao_kupper":
            first, second = logsigmoid(margin - math.log(nu)), logsigmoid(-margin - math.log(nu))
            return first, second, math.log(nu**2 - 1) + first + second
        # Davidson, in logarithms: 1 + e^-d + 2 nu e^(-d/2), split at each outcome's own term.
        half = margin / 2
        even = math.log(2 * nu) + margin.new_zeros(margin.shape)
        total = half.logaddexp(-half).logaddexp(even)
        return half - total, -half - total, even - total


@dataclass(frozen=True, kw_only=True)
class LogisticOrHinge(MarginAlgorithm):
    """A margin that may be fitted as a support vector machine instead: max(0, 1 - m).

    The hinge is no likelihood. A soft label weighs both sides, which puts the minimum of any
    majority at m = 1; a tie leaves m alone within [-1, 1] and pulls it back from outside.
    """

    form: str = knob(
        "sigmoid",
        "The loss on the margin m: -log sigmoid(m), which always asks for more (sigmoid), or "
        "max(0, 1 - m), which is content once the margin is 1 (hinge).",
        choices=("sigmoid", "hinge"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "hinge" and self.ties != "soft":
            raise ValueError("ties must be soft with the hinge, which has no probability of a tie")

    def _outcomes(self, margin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.form == "sigmoid":
            return super()._outcomes(margin)
        return -(1 - margin).relu(), -(1 + margin).relu(), margin.new_zeros(())
