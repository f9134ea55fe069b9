"""DNO - Direct Nash Optimization (arXiv:2404.03715), its Algorithm 1 with the full regression.

r(y) = P(y > pi_t) is estimated by an answer's win rate among its K siblings; the loss is the
cross-entropy of sigmoid(eta * h) with sigmoid(r1 - r2), whose minimiser is pi_t * exp(r / eta).
A pair's label is how far two win rates lie apart, never who wins, so pairs that are equal or close
count as much as clear ones. With tau the base is pi_ref^(tau/eta) * pi_t^(1 - tau/eta) (Algorithm
3, opponents drawn from pi_t): INPO's step, by cross-entropy. On cyclic tastes the last round
circles while the average of rounds converges, so the paper's output is the best round on
validation: keep several rounds and let their evaluations decide which one is promoted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

from align.algorithm import Algorithm, Example, Labels, LogProbs, Loss, Preset, knob, logsigmoid
from align.pairing import RULES, Judged, PairChoice, couples, opponents, usable, win_rate


@dataclass(frozen=True, kw_only=True)
class DNO(Algorithm):
    title: ClassVar[str] = "DNO"
    references: ClassVar[tuple[str, ...]] = ("initial", "round_start")
    pair_rule: ClassVar[str] = "all_pairs"
    facts: ClassVar[tuple[str, ...]] = ("win.chosen", "win.rejected")
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Algorithm 1 with the settings of the paper's experiments (which ran DNO-Prct): five "
            "answers, all pairs of them, the best of several checkpoints and of several rounds.",
            knobs={"eta": 0.1, "tau": 0.0},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 5,
                "temperature": 0.7,
                "pairs_from": "reward_model",
                "pair_rule": "all_pairs",
                "replay": "none",
                "epochs": 1,
                "batch_size": 64,
                "candidates": 4,
            },
        ),
        "theory": Preset(
            "Answers drawn from the policy as it is, every pair of them, a step whose targets a "
            "round can reach.",
            knobs={"eta": 1.0, "tau": 0.0},
            round={
                "samples_per_prompt": 8,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "all_pairs",
                "replay": "none",
            },
        ),
    }

    eta: float = knob(
        0.1,
        "Step size of a round, as its inverse: an answer's log-odds move by win rate / eta nats.",
        above=0,
    )
    tau: float = knob(
        0.0,
        "Pull to the first policy, at most eta, as the paper's Algorithm 3 has it; its Algorithm 1 "
        "is 0.",
        at_least=0,
    )
    reward_scale: float = knob(
        1.0,
        "Sharpens targets, sigmoid(scale * (r1 - r2)), and the margin alike: the optimum stays, "
        "gradients grow. At the paper's 1 targets lie within [0.27, 0.73].",
        above=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau > self.eta:
            raise ValueError(f"tau must be at most eta, {self.eta:g}, not {self.tau:g}")

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs oriented by win rate; a rule says which pairs, and none is too close to count.

        Answers that met none of the policy's have no win rate and take no part.
        """
        pairs = []
        for i, j, weight, tie in _couples(judged, rule, seed):
            if not (opponents(judged, i) and opponents(judged, j)):
                continue
            apart = win_rate(judged, i) - win_rate(judged, j)
            if apart < 0:
                i, j, apart = j, i, -apart
            z = 1 / (1 + math.exp(-self.reward_scale * apart))
            pairs.append(PairChoice(i, j, z, weight, tie))
        kept = usable(judged, pairs)
        if rule == "all_pairs":  # one prompt's pairs weigh as one, however many are left
            kept = [replace(pair, weight=1 / len(kept)) for pair in kept]
        return [self.example(judged, pair) for pair in kept]

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        wins = {
            "win.chosen": win_rate(judged, choice.chosen),
            "win.rejected": win_rate(judged, choice.rejected),
        }
        plain = super().example(judged, choice)
        return replace(plain, facts={**plain.facts, **wins})

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        share, c = self.tau / self.eta, self.reward_scale
        base = share * logps.gap("initial") + (1 - share) * logps.gap("round_start")
        h = logps.gap("policy") - base  # (B,)
        margin = c * self.eta * h
        apart = c * (labels.of("win.chosen") - labels.of("win.rejected"))
        z = apart.sigmoid()
        losses = -z * logsigmoid(margin) - (1 - z) * logsigmoid(-margin)
        # What is left to learn: the loss less the least it can be, the targets' own entropy.
        least = -z * logsigmoid(apart) - (1 - z) * logsigmoid(-apart)
        metrics = {
            "h": h,
            "excess": losses - least,
            "rewards/margins": margin,
            "rewards/accuracies": (h * apart > 0).to(h.dtype),
        }
        return Loss(losses, metrics)


def _couples(judged: Judged, rule: str, seed: int) -> list[tuple[int, int, float, float]]:
    """Which answers meet: indices, weight and share of ties. No margin and no tie leaves any out,
    for a win rate's difference of zero is a target like any other."""
    indices = range(len(judged.answers))
    if rule == "all_pairs":
        return [(i, j, 1.0, 0.0) for i, j in combinations(indices, 2)]
    if rule == "random":
        return [(i, j, 1.0, 0.0) for i, j in couples(judged, seed)[:1]]
    if rule == "pair_off":
        return [(i, j, 1.0, 0.0) for i, j in couples(judged, seed)]
    found = RULES[rule](replace(judged, margin=0.0), seed)
    return [(pair.chosen, pair.rejected, pair.weight, pair.tie) for pair in found]
