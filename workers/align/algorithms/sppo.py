"""SPPO - Self-Play Preference Optimization (arXiv:2405.00675).

Each answer's log-ratio to the round's start is drawn to a target of its own, E * (P(y > pi_t) -
1/2): one step of multiplicative weights in the game of policy against policy, with its log
normaliser replaced by E / 2. That constant is wrong by as much as tastes are one-sided, so
absolute targets are biased, their differences are not. Unlike DPO, IPO and INPO the loss sees a
shift of both answers. As published, win rates come from scores and include the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import Algorithm, Draws, Example, Labels, LogProbs, Loss, Preset, knob
from align.pairing import RULES, Judged, PairChoice, opponents, win_rate

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SPPO(Algorithm):
    title: ClassVar[str] = "SPPO"
    references: ClassVar[tuple[str, ...]] = ("round_start",)
    pair_rule: ClassVar[str] = "max_min"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "As the authors' scripts run it: five answers, best against worst, win rates among the "
            "five, one epoch a round, only this round's pairs (their text says 18 epochs).",
            source="arXiv:2405.00675: the authors' run scripts.",
            knobs={"eta": 1000.0, "targets": "win_rate", "top_p": 0.9},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 5,
                "temperature": 0.7,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "replay": "none",
                "epochs": 1,
            },
        ),
        "theory": Preset(
            "Pairs drawn without looking at their scores, from the policy as it is; a step whose "
            "targets a round can reach.",
            source="arXiv:2405.00675: its loss; the step is ours.",
            knobs={"eta": 3.0, "targets": "win_rate"},
            round={
                "samples_per_prompt": 8,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "random",
                "replay": "none",
            },
        ),
    }

    eta: float = knob(
        1000.0,
        "Step size E of a round: an answer that always wins is to become E / 2 nats likelier. "
        "The authors take 1000, which their code calls a beta of 0.001.",
        above=0,
    )
    targets: str = knob(
        "win_rate",
        "What an answer's target is made of: its win rate among the prompt's answers, as "
        "published (win_rate), or the pair's label alone, the winner winning always (hard). "
        "With hard the two squares are summed and not averaged, as in TRL.",
        choices=("win_rate", "hard"),
    )
    top_p: float = knob(
        1.0,
        "Answers are drawn from the likeliest tokens that together have this probability; 1 is "
        "all of them. The authors take 0.9.",
        above=0,
        at_most=1,
    )

    @property
    def facts(self) -> tuple[str, ...]:
        return ("win.chosen", "win.rejected") if self.targets == "win_rate" else ()

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        return (Draws(n=samples_per_prompt, temperature=temperature, top_p=self.top_p),)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs by the rule; where win rates are read, not of answers that met none of the
        policy's and have none."""
        return [
            self.example(judged, pair)
            for pair in RULES[rule](judged, seed)
            if self.targets == "hard"
            or (opponents(judged, pair.chosen) and opponents(judged, pair.rejected))
        ]

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        plain = super().example(judged, choice)
        if self.targets == "hard":
            return plain
        sides = plain.answers.items()
        return plain.adding(facts={f"win.{r}": win_rate(judged, k, itself=True) for r, k in sides})

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        chosen, rejected = (logps.ratio(role, "round_start") for role in ("chosen", "rejected"))
        first, second = self._wins(labels)  # (B,) each
        squares = (chosen - self.eta * (first - 0.5)) ** 2
        squares = squares + (rejected - self.eta * (second - 0.5)) ** 2
        metrics = {
            "rewards/chosen": chosen / self.eta,
            "rewards/rejected": rejected / self.eta,
            "rewards/margins": (chosen - rejected) / self.eta,
            "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
        }
        return Loss(squares if self.targets == "hard" else squares / 2, metrics)

    def _wins(self, labels: Labels) -> tuple[Tensor, Tensor]:
        """P(chosen > pi_t) and P(rejected > pi_t), (B,); a tie stays one with hard targets."""
        if self.targets == "win_rate":
            return labels.of("win.chosen"), labels.of("win.rejected")
        won = ((labels.p > 0.5).to(labels.p.dtype) + (labels.p >= 0.5).to(labels.p.dtype)) / 2
        return won, 1 - won
