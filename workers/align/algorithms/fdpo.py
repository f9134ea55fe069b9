"""f-DPO - DPO with other divergences than reverse KL (arXiv:2309.16240).

Minimises -log sigmoid(beta * (f'(u_w) - f'(u_l))) with u = pi / pi_ref = exp(rho): the reward that
a policy is optimal for under an f-divergence is beta * f'(u) up to a constant, which cancels. Only
divergences whose f' is not defined at 0 allow this, since the optimum must keep all answers.

Past an exponent of 30 the exponential goes on along its tangent, so that sums over long answers
stay finite and still have a gradient; TRL cuts it off there (at 80) and has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import Labels, LogProbs, Loss, Preset, knob, logsigmoid
from align.margin import MarginAlgorithm

if TYPE_CHECKING:
    from torch import Tensor

CLAMP = 30.0  # e^30 = 1e13: its square, summed over weights, still fits in fp32


@dataclass(frozen=True, kw_only=True)
class FDPO(MarginAlgorithm):
    title: ClassVar[str] = "f-DPO"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "The authors' run on HH: Jensen-Shannon with beta 0.3, pairs that people voted on, "
            "batches of 64.",
            source="arXiv:2309.16240: the authors' scripts.",
            knobs={"divergence": "jensen_shannon", "beta": 0.3, "soft_labels": False},
            round={
                "rounds_wanted": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "none",
                "epochs": 1,
                "batch_size": 64,
            },
        ),
        "theory": Preset(
            "Two answers drawn alike, shares of votes as soft labels, all rounds' votes: their "
            "likelihood has the divergence's optimal policy as its maximum.",
            source="arXiv:2309.16240: its likelihood, on pairs that nothing selected.",
            knobs={"divergence": "alpha", "alpha": 0.5, "beta": 0.1, "soft_labels": True},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
            },
        ),
    }

    divergence: str = knob(
        "jensen_shannon",
        "How the distance to the reference is measured. reverse_kl is DPO; forward_kl keeps "
        "everything that the reference might say; alpha lies between these two; jensen_shannon, "
        "which the authors run on HH, lets answers go as reverse_kl does, bounds the reward of "
        "making one likelier, and starts with half of DPO's gradient.",
        choices=("reverse_kl", "forward_kl", "jensen_shannon", "alpha"),
    )
    alpha: float = knob(
        0.5,
        "Where the alpha divergence lies between reverse KL (0) and forward KL (1). The authors "
        "try 0.3, 0.5 and 0.7; TRL counts from the other end (1 minus this). Only read with "
        "alpha.",
        above=0,
        below=1,
    )

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        chosen, rejected = (
            self.beta * self._slope(logps.ratio(role, "reference"))
            for role in ("chosen", "rejected")
        )
        margin = chosen - rejected  # (B,)
        implicit = {"rewards/chosen": chosen, "rewards/rejected": rejected}
        metrics = {**self.figures(logps, margin), **implicit}
        return Loss(self.likelihood(margin, labels), metrics)

    def _slope(self, rho: Tensor) -> Tensor:
        """f'(exp(rho)), less its value at rho = 0; the same shape."""
        if self.divergence == "reverse_kl":
            return rho
        if self.divergence == "jensen_shannon":
            return math.log(2) + logsigmoid(rho)
        alpha = 1.0 if self.divergence == "forward_kl" else self.alpha
        return -_expm1(-alpha * rho) / alpha


def _expm1(x: Tensor) -> Tensor:
    """exp(x) - 1, along its tangent beyond CLAMP."""
    return x.clamp(max=CLAMP).expm1() + math.exp(CLAMP) * (x - CLAMP).relu()
