"""SLiC-HF - Sequence Likelihood Calibration with Human Feedback (arXiv:2305.10425).

max(0, delta - l(y_w) + l(y_l)) - lambda * l(y_target): the preferred answer's log-likelihood is
to exceed the other's by delta, and a good answer's likelihood is held up. There is no reference
policy; `hinge_norm` puts log-ratios to one in place of likelihoods, as RSO (arXiv:2309.06657)
advises after the plain form raised its proxy reward at the cost of independent judgement.

Ours: a share of votes p weighs both orientations of the whole loss, p and 1 - p, as if each vote
were an example. A tie therefore trains nothing in the hinge while the gap is within delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Algorithm, Example, Labels, LogProbs, Loss, Preset, knob
from align.pairing import Judged, PairChoice, score


@dataclass(frozen=True, kw_only=True)
class SLiC(Algorithm):
    title: ClassVar[str] = "SLiC"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Eight answers at temperature 0.7, paired and ordered by a reward model; margin 1, the "
            "best answer as target. The paper prints no lambda: 0.1 is ours.",
            source="arXiv:2305.10425; draws and batches as in arXiv:2309.06657.",
            knobs={"form": "hinge", "delta": 1.0, "strength": 0.1, "target": "best"},
            round={
                "rounds_wanted": 1,
                "samples_per_prompt": 8,
                "temperature": 0.7,
                "pairs_from": "reward_model",
                "pair_rule": "pair_off",
                "replay": "none",
                "batch_size": 32,
            },
        ),
        "theory": Preset(
            "RSO's reading: a support vector machine on log-ratios, delta = 1 / gamma, no other "
            "term; two answers drawn alike and voted on.",
            source="arXiv:2309.06657: its hinge-norm loss, delta = 1 / gamma.",
            knobs={"form": "hinge_norm", "delta": 20.0, "strength": 0.0},
            round={
                "samples_per_prompt": 2,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
            },
        ),
    }

    form: str = knob(
        "hinge",
        "What the margin is between: the answers' log-likelihoods, as published (hinge), or "
        "their log-ratios to the reference (hinge_norm), which RSO found harder to cheat.",
        choices=("hinge", "hinge_norm"),
    )
    delta: float = knob(
        1.0,
        "Margin to reach, in nats; a pair that has it trains no further. RSO's best gamma of "
        "0.05 is a margin of 20.",
        above=0,
    )
    strength: float = knob(
        0.1,
        "Weight of keeping a good answer likely (lambda). The paper prints no value and 0.1 is "
        "ours; RSO found no benefit and takes 0.",
        at_least=0,
    )
    target: str = knob(
        "chosen",
        "Which answer is kept likely: the pair's winner (chosen), or the best answer to the "
        "prompt (best).",
        choices=("chosen", "best"),
    )

    @property
    def roles(self) -> tuple[str, ...]:
        return ("chosen", "rejected", "target") if self._third else ("chosen", "rejected")

    @property
    def references(self) -> tuple[str, ...]:
        return ("reference",) if self.form == "hinge_norm" else ()

    @property
    def _third(self) -> bool:
        return self.target == "best" and self.strength > 0

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        plain = super().example(judged, choice)
        if not self._third:
            return plain
        whole = [k for k, answer in enumerate(judged.answers) if not answer.truncated]
        best = max(whole, key=lambda k: score(judged, k))
        return plain.adding(answers={"target": best})

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        p, gap = labels.p, logps.gap("policy")  # (B,)
        if self.form == "hinge_norm":
            gap = gap - logps.gap("reference")
        hinge = p * (self.delta - gap).relu() + (1 - p) * (self.delta + gap).relu()
        if self._third:
            kept = logps.of("policy", "target")
        else:
            kept = p * logps.of("policy", "chosen") + (1 - p) * logps.of("policy", "rejected")
        metrics = {
            "hinge": hinge,
            "nll": -kept,
            "rewards/margins": gap,
            "rewards/accuracies": (gap > 0).to(gap.dtype),
        }
        return Loss(hinge - self.strength * kept, metrics)
