"""MODPO - Multi-Objective Direct Preference Optimization (arXiv:2310.03708).

Votes decide the first objective; a second reward r2 enters as a margin that the policy owes:
-log sigmoid((1 / w) * (beta * (rho_w - rho_l) - (1 - w) * (r2(y_w) - r2(y_l)))), or its hinge.
The minimiser is pi_ref exp((w r1 + (1 - w) r2) / beta) / Z; w = 1 is DPO. r2 is on the scale of a
Bradley-Terry logit. The paper's sum over several further rewards is one here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Example, Labels, LogProbs, Loss, Preset, knob
from align.margin import LogisticOrHinge
from align.pairing import Judged, PairChoice


@dataclass(frozen=True, kw_only=True)
class MODPO(LogisticOrHinge):
    title: ClassVar[str] = "MODPO"
    facts: ClassVar[tuple[str, ...]] = ("second.chosen", "second.rejected")
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "The authors' summaries: a token saved is worth a tenth of a logit of the votes. Their "
            "weights 1 and 0.1 with beta 0.1 are divided by 1.1 here, which changes nothing.",
            source="arXiv:2310.03708: the authors' script for summaries.",
            knobs={
                "beta": 0.1 / 1.1, "weight": 1 / 1.1, "second": "brevity", "per_token": 1.0,
                "soft_labels": False,
            },
            round={
                "rounds_wanted": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "none",
                "epochs": 2,
            },
        ),
        "theory": Preset(
            "Weights that sum to 1, two answers drawn alike, shares of votes as soft labels, all "
            "rounds' votes.",
            source="arXiv:2310.03708: weights on the simplex, pairs that nothing selected.",
            knobs={"beta": 0.1, "weight": 0.5, "second": "brevity", "per_token": 0.01},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
            },
        ),
    }  # fmt: skip

    weight: float = knob(
        0.5,
        "Weight w of what people voted on; the second objective has 1 - w. At 1 this is DPO; "
        "near 0 votes are magnified without limit. Weights that do not sum to 1, as in some of "
        "the authors' scripts, become these when beta and both weights are divided by their "
        "sum.",
        above=0,
        at_most=1,
    )
    second: str = knob(
        "brevity",
        "What is wanted besides votes: short answers (brevity), or a reward model's score "
        "(score). With score only pairs that people compared are trained on, whatever the pair "
        "rule, or one model would judge both objectives.",
        choices=("brevity", "score"),
    )
    per_token: float = knob(
        0.01,
        "What a token less is worth, on the scale of the votes' log-odds: at 0.01, an answer "
        "that is 100 tokens shorter makes up for odds of e (2.7) to 1. The authors take 1.",
        at_least=0,
    )

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        return super().examples(judged, "voted" if self.second == "score" else rule, seed)

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        plain = super().example(judged, choice)
        seconds = {f"second.{role}": self._second(judged, k) for role, k in plain.answers.items()}
        return plain.adding(facts=seconds)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        owed = (1 - self.weight) * (labels.of("second.chosen") - labels.of("second.rejected"))
        earned = self.beta * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        margin = (earned - owed) / self.weight
        metrics = {**self.figures(logps, margin), "owed": owed}
        return Loss(self.likelihood(margin, labels), metrics)

    def _second(self, judged: Judged, index: int) -> float:
        """r2 of an answer. Raises ValueError where a score is asked for and there is none."""
        answer = judged.answers[index]
        if self.second == "brevity":
            return -self.per_token * answer.tokens
        if answer.score is None:
            raise ValueError(
                "MODPO's second objective is the reward model's score, and an answer has none: "
                "make pairs from a reward model, or choose brevity"
            )
        return answer.score
