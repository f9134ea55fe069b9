"""DPO - Direct Preference Optimization (arXiv:2305.18290), run iteratively on the policy's answers.

The margin m = beta * (gap under the policy - gap under the reference) is pushed up through
-log sigmoid(m): a Bradley-Terry fit whose reward is the policy's own log-ratio. Label noise is met
in two ways: `conservative` mixes in the flipped label (cDPO), `robust` un-biases the loss for a
known flip rate (arXiv:2403.00409). Soft labels from split votes enter the same formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Labels, LogProbs, Loss, Preset
from align.margin import MarginAlgorithm


@dataclass(frozen=True, kw_only=True)
class DPO(MarginAlgorithm):
    title: ClassVar[str] = "DPO"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "RLHF Workflow (arXiv:2405.07863): 8 answers, a reward model's best against its worst, "
            "fresh prompts every round, the first policy as reference.",
            source="arXiv:2405.07863 and the code published with it.",
            knobs={"beta": 0.1},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 8,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "reference": "initial",
                "replay": "none",
                "epochs": 2,
                "batch_size": 128,
            },
        ),
        "theory": Preset(
            "Pairs that are drawn without looking at their scores, one vote each, all rounds' "
            "votes: the likelihood that DPO's derivation maximises.",
            source="arXiv:2305.18290: its likelihood, on pairs that nothing selected.",
            knobs={"beta": 0.1},
            round={
                "samples_per_prompt": 2,
                "overlap": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
            },
        ),
    }

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        margin = self.beta * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        return Loss(self.likelihood(margin, labels), self.figures(logps, margin))
