"""SELM - Self-Exploring Language Models (arXiv:2405.19332).

DPO plus optimism: alpha * beta * (l_policy(y_g) - l_reference(y_g)) is added, where y_g is one
answer of the round's start, which as published is the reference too. Lowering what it already
says leaves mass for what nobody has judged. y_g is judged with the others and may win or lose.
The term is linear and has no lower bound: keep alpha small and epochs few, and read the two terms
apart (`loss/preference`, `loss/explore`). At alpha 0 this is DPO, bit for bit. Departs from the
paper in that pairs come from fresh answers, where it re-ranks a stored data set's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Draws, Example, Labels, LogProbs, Loss, Preset, knob
from align.margin import MarginAlgorithm
from align.pairing import Judged, PairChoice

HARMFUL = 1e-4  # alpha * beta from which the paper's own sweep got worse than DPO


@dataclass(frozen=True, kw_only=True)
class SELM(MarginAlgorithm):
    title: ClassVar[str] = "SELM"
    pair_rule: ClassVar[str] = "max_min"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Two answers and the policy's greedy one are ranked; best against worst. The reference "
            "moves with every round, each on fresh prompts. Alpha and batches as for Zephyr.",
            source="arXiv:2405.19332 and the authors' code for Zephyr.",
            knobs={"beta": 0.01, "alpha": 0.001, "coefficient": "alpha_beta", "explore": "greedy"},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 2,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "reference": "round_start",
                "replay": "none",
                "epochs": 1,
                "batch_size": 256,
            },
        ),
        "theory": Preset(
            "The explored answer is drawn as the objective says, so optimism pulls only after "
            "votes moved the policy; pairs drawn without looking at their scores, one vote each.",
            source="arXiv:2405.19332, equation 4.2; alpha is from its search.",
            knobs={"beta": 0.1, "alpha": 0.0005, "explore": "sampled"},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "overlap": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "round_start",
                "replay": "none",
            },
        ),
    }

    alpha: float = knob(
        0.0005,
        "Weight of the exploration term. At its beta of 0.01 the paper advises 0.001 to 0.005, "
        "calls 0.0001 no better than DPO and 0.01 harmful; at a beta of 0.1, 0.0005 weighs as "
        "much as its 0.005.",
        at_least=0,
    )
    coefficient: str = knob(
        "alpha_beta",
        "What multiplies the term: alpha times beta, as in the paper's objective and the "
        "authors' code (alpha_beta), or alpha alone, as the paper's Algorithm 1 prints (alpha).",
        choices=("alpha_beta", "alpha"),
    )
    explore: str = knob(
        "sampled",
        "How the explored answer is drawn: like the others, as the objective says (sampled), or "
        "as the likeliest one, as in the authors' code, which lowers it from the first step "
        "(greedy).",
        choices=("sampled", "greedy"),
    )

    @property
    def roles(self) -> tuple[str, ...]:
        return ("chosen", "rejected", "explore")

    @property
    def pull(self) -> float:
        """The exploration term's weight per nat."""
        return self.alpha * (self.beta if self.coefficient == "alpha_beta" else 1.0)

    def warnings(self) -> tuple[str, ...]:
        if self.pull < HARMFUL:
            return ()
        return (
            f"The exploration term weighs {self.pull:g} per nat and has no lower bound; from "
            f"{HARMFUL:g} on, the paper found it worse than plain DPO.",
        )

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        heat = 0.0 if self.explore == "greedy" else temperature
        explored = Draws(n=1, temperature=heat, source="explore")
        return (*super().draws(samples_per_prompt, temperature), explored)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs among all answers, the explored one too; none where nothing was explored."""
        explored = any(answer.source == "explore" for answer in judged.answers)
        return super().examples(judged, rule, seed) if explored else []

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        sources = [answer.source for answer in judged.answers]
        plain = super().example(judged, choice)
        return plain.adding(answers={"explore": sources.index("explore")})

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        margin = self.beta * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        preference = self.likelihood(margin, labels)
        drift = logps.ratio("explore", "reference")
        term = self.pull * drift
        metrics = {
            **self.figures(logps, margin),
            "loss/preference": preference,
            "loss/explore": term,
        }
        return Loss(preference + term, metrics)
