"""IPO - Identity Preference Optimization (arXiv:2310.12036).

Regresses the difference h of log-ratios onto (2p - 1) / (2 tau). It works on preferences as they
are, with no Bradley-Terry model between; a margin that is reached is held, not pushed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import Algorithm, Labels, LogProbs, Loss, Preset, knob

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class IPO(Algorithm):
    title: ClassVar[str] = "IPO"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "As widely trained: log-ratios divided by their answer's length, best against worst.",
            source="arXiv:2310.12036, in TRL's reading, which its authors confirmed.",
            knobs={"tau": 0.1, "reduction": "mean"},
            round={
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "reference": "initial",
                "replay": "none",
            },
        ),
        "theory": Preset(
            "The paper's formula: sums over tokens, pairs drawn without looking at their scores.",
            source="arXiv:2310.12036, the formula as it is printed.",
            knobs={"tau": 0.1, "reduction": "sum"},
            round={
                "samples_per_prompt": 2,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
            },
        ),
    }

    tau: float = knob(
        0.1,
        "How strongly the policy is held to its reference: a pair that one side always wins is "
        "driven 1 / (2 tau) apart, and held there. Usual with means are 0.01 to 0.1.",
        above=0,
    )
    reduction: str = knob(
        "sum",
        "Whether log-ratios are summed over an answer's tokens (sum), as the paper defines "
        "them, or divided by their number (mean), as its authors later advised and TRL does. "
        "tau means something else in each.",
        choices=("sum", "mean"),
    )

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        h = self._ratio("chosen", logps, labels) - self._ratio("rejected", logps, labels)  # (B,)
        target = (2 * labels.p - 1) / (2 * self.tau)
        return Loss((h - target) ** 2, {"h": h, "rewards/accuracies": (h > 0).to(h.dtype)})

    def _ratio(self, role: str, logps: LogProbs, labels: Labels) -> Tensor:
        ratio = logps.ratio(role, "reference")
        return ratio / labels.tokens[role] if self.reduction == "mean" else ratio
