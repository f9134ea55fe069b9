"""VPO - Value-Incentivized Preference Optimization (arXiv:2405.19320); the derivation is ours.

The likelihood of votes is regularised by the best value that a reward promises,
V(r) = beta * log E_ref[exp(r / beta)]: sought when exploring (online), shunned when all data is
given (offline). Votes leave a reward free up to a constant; fixing it by E_cal[r] = 0 for some law
`cal` of answers and putting r = beta * log(pi / pi_ref) + V gives
V = -beta * E_cal[log pi - log pi_ref], hence L_DPO +- alpha * beta * E_cal[log pi - log pi_ref].
The paper's text could not be read: its idea is from its abstract, the rest is worked out as above
and checked against the constrained problem itself on a bandit (tests/align/test_vpo.py). With cal
the reference it is SELM's loss; offline with cal the chosen answers (of a split vote both, by
their shares) it is DPO plus fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import Draws, Example, Labels, LogProbs, Loss, Preset, knob
from align.margin import MarginAlgorithm
from align.pairing import Judged, PairChoice

if TYPE_CHECKING:
    from torch import Tensor

DRAWN = ("initial", "round_start")  # laws that need answers of their own


@dataclass(frozen=True, kw_only=True)
class VPO(MarginAlgorithm):
    title: ClassVar[str] = "VPO"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Online: optimism under the first policy, which is also the reference; all rounds' "
            "votes. The weight is ours, chosen as small as SELM's.",
            source="arXiv:2405.19320 in our derivation; alpha is ours.",
            knobs={"beta": 0.1, "alpha": 0.0005, "uncertainty": "optimism"},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 2,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "reference": "initial",
                "replay": "all",
                "epochs": 1,
            },
        ),
        "offline": Preset(
            "Pessimism on data that is given: DPO with a pull towards the chosen answers.",
            source="arXiv:2405.19320 in our derivation; alpha is ours.",
            knobs={"beta": 0.1, "alpha": 0.05, "uncertainty": "pessimism", "calibration": "chosen"},
            round={
                "rounds_wanted": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
            },
        ),
        "theory": Preset(
            "One vote on each of two answers drawn alike, all rounds' votes, trained anew from the "
            "first policy: each step minimises over everything seen so far.",
            source="arXiv:2405.19320 in our derivation: all data so far, from the first policy.",
            knobs={"beta": 0.1, "alpha": 0.0005, "uncertainty": "optimism"},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "overlap": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
                "warm_start": False,
            },
        ),
    }

    alpha: float = knob(
        0.0005,
        "Weight of the value term, which is multiplied by beta as well; 0 is DPO. The paper's "
        "value could not be read: 0.0005 is ours, as small as SELM's.",
        at_least=0,
    )
    uncertainty: str = knob(
        "optimism",
        "What is expected where votes leave rewards open: the best (optimism), for rounds that "
        "gather new votes, or the worst (pessimism), for data that is given.",
        choices=("optimism", "pessimism"),
    )
    calibration: str = knob(
        "initial",
        "The answers over which rewards are taken to average to zero: one drawn for this from "
        "the first policy (initial) or from the round's start (round_start), the winners "
        "(chosen), or both answers of each pair (pair).",
        choices=(*DRAWN, "chosen", "pair"),
    )

    @property
    def roles(self) -> tuple[str, ...]:
        pair = ("chosen", "rejected")
        return (*pair, "calibration") if self.calibration in DRAWN else pair

    def warnings(self) -> tuple[str, ...]:
        if self.uncertainty == "pessimism" or self.calibration != "chosen":
            return ()
        return ("Optimism calibrated on the chosen answers pushes down what raters preferred.",)

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        found = super().draws(samples_per_prompt, temperature)
        if self.calibration == "initial":
            found += (Draws(n=1, temperature=temperature, source="calibration", model="initial"),)
        elif self.calibration == "round_start":
            found += (Draws(n=1, temperature=temperature, source="calibration"),)
        return found

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs among all answers, for votes on any pair tell of the reward; none where an answer
        to calibrate on is wanted and was not drawn."""
        drawn = any(answer.source == "calibration" for answer in judged.answers)
        wanted = self.calibration in DRAWN
        return super().examples(judged, rule, seed) if drawn or not wanted else []

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        plain = super().example(judged, choice)
        if self.calibration not in DRAWN:
            return plain
        index = [answer.source for answer in judged.answers].index("calibration")
        return plain.adding(answers={"calibration": index})

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        margin = self.beta * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        preference = self.likelihood(margin, labels)
        sign = 1 if self.uncertainty == "optimism" else -1
        term = sign * self.alpha * self.beta * self._drift(logps, labels)
        metrics = {
            **self.figures(logps, margin),
            "loss/preference": preference,
            "loss/value": term,
        }
        return Loss(preference + term, metrics)

    def _drift(self, logps: LogProbs, labels: Labels) -> Tensor:
        """log pi - log pi_ref of the answers calibrated on, (B,)."""
        if self.calibration in DRAWN:
            return logps.ratio("calibration", "reference")
        # Of a split vote either answer was chosen, by its share.
        p = self._label(labels.p) if self.calibration == "chosen" else 0.5
        chosen, rejected = (logps.ratio(role, "reference") for role in ("chosen", "rejected"))
        return p * chosen + (1 - p) * rejected
