"""A step of mirror descent in the game where two policies meet before the raters.

INPO, Nash-MD and DNO all take it: from the mixture pi_ref^(tau/eta) * pi_t^(1 - tau/eta), tilted
by exp(P(y > opponent) / eta). They differ in who the opponent is and in the loss that fits the
tilt; the step's two knobs, its mixture and the square that two of them fit are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.algorithm import Algorithm, Labels, LogProbs, Loss

if TYPE_CHECKING:
    from torch import Tensor

CYCLE = 0.1  # largest |Im| of a taste's linearised game, of which algorithms warn: a mild cycle


@dataclass(frozen=True, kw_only=True)
class MirrorStep(Algorithm):
    """An algorithm whose round is such a step."""

    eta: float  # inverse step size; a knob of each algorithm, with its own default, like tau
    tau: float  # pull to the first policy

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau > self.eta:
            raise ValueError(f"tau must be at most eta, {self.eta:g}, not {self.tau:g}")

    @property
    def share(self) -> float:
        """The first policy's share of the mixture."""
        return self.tau / self.eta

    @property
    def mixture(self) -> dict[str, float]:
        """The exponent of each policy that has one above 0."""
        shares = {"initial": self.share, "round_start": 1 - self.share}
        return {name: share for name, share in shares.items() if share}

    @property
    def references(self) -> tuple[str, ...]:
        return tuple(self.mixture)

    def tilt(self, logps: LogProbs) -> Tensor:
        """h: how far the policy's gap between both answers is from the mixture's, (B,)."""
        start = sum(share * logps.gap(name) for name, share in self.mixture.items())
        return logps.gap("policy") - start

    def square(self, h: Tensor, labels: Labels) -> Loss:
        """eta * h^2 - (2p - 1) * h, which has the minimiser (2p - 1) / (2 eta) of the published
        square (logged as `raw`) and gradients of a sane size."""
        pull = 2 * labels.p - 1
        metrics = {
            "h": h,
            "raw": (h - pull / (2 * self.eta)) ** 2,
            "rewards/accuracies": (h > 0).to(h.dtype),
        }
        return Loss(self.eta * h**2 - pull * h, metrics)

    def circling(self, settled: str) -> str:
        """The warning that rounds may circle; `settled` says when they do not."""
        return (
            f"With eta = {self.eta:g} and tau = {self.tau:g} rounds would circle instead of "
            f"settling if raters' tastes are cyclic; they settle when {settled}, with s near "
            f"{CYCLE:g} for a mild cycle and 0 for none."
        )
