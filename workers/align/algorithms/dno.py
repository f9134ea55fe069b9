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
from typing import ClassVar

from align.algorithm import Example, Labels, LogProbs, Loss, Preset, knob, logsigmoid
from align.mirror import MirrorStep
from align.pairing import Judged, PairChoice, as_one, meetings, opponents, usable, win_rate


@dataclass(frozen=True, kw_only=True)
class DNO(MirrorStep):
    title: ClassVar[str] = "DNO"
    pair_rule: ClassVar[str] = "all_pairs"
    facts: ClassVar[tuple[str, ...]] = ("win.chosen", "win.rejected")
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Algorithm 1 with the settings of the paper's experiments (which ran DNO-Prct): five "
            "answers, all pairs of them, the best of several checkpoints and of several rounds.",
            source="arXiv:2404.03715, Algorithm 1 and the settings of its experiments.",
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
            source="arXiv:2404.03715, Algorithm 1; the step is ours.",
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
        "Inverse step size of a round: an answer that wins 10 % more often than another gains "
        "0.1 / eta nats on it. The paper takes 0.1 or 0.05.",
        above=0,
    )
    tau: float = knob(
        0.0,
        "Pull back to the first policy, at most eta, as in the paper's Algorithm 3. 0 is its "
        "Algorithm 1, which has none.",
        at_least=0,
    )
    reward_scale: float = knob(
        1.0,
        "Multiplies differences of win rates and the margin alike, which leaves the optimum "
        "where it is and makes gradients larger. At the paper's 1 all targets lie between 0.27 "
        "and 0.73.",
        above=0,
    )

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs oriented by win rate; a rule says which pairs, and none is too close to count.

        Answers that met none of the policy's have no win rate and take no part.
        """
        pairs = []
        for pair in meetings(judged, rule, seed):
            if not (opponents(judged, pair.chosen) and opponents(judged, pair.rejected)):
                continue
            apart = win_rate(judged, pair.chosen) - win_rate(judged, pair.rejected)
            if apart < 0:
                pair, apart = pair.turned(), -apart
            pairs.append(replace(pair, p=1 / (1 + math.exp(-self.reward_scale * apart))))
        kept = usable(judged, pairs)
        return [self.example(judged, x) for x in (as_one(kept) if rule == "all_pairs" else kept)]

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        plain = super().example(judged, choice)
        wins = {f"win.{role}": win_rate(judged, k) for role, k in plain.answers.items()}
        return plain.adding(facts=wins)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        h, c = self.tilt(logps), self.reward_scale
        margin = c * self.eta * h  # (B,)
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
