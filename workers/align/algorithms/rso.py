"""RSO - Statistical Rejection Sampling Optimization (arXiv:2309.06657).

The likelihood of a reward's optimal policy wants pairs drawn from that policy, so answers of the
round's policy are thinned by rejection sampling until they follow pi exp(r / beta) / Z; those are
paired off at random and labelled. The loss is DPO's with its own strength gamma, or its hinge.

Departures: answers that repeat a text stay the draws they are (the paper's code merges them),
which keeps the accepted law exact; top-k 40 of the paper's sampling is left out, as the loss
needs draws of the policy itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from align.algorithm import Example, Labels, LogProbs, Loss, Preset, knob
from align.margin import LogisticOrHinge
from align.pairing import RULES, Judged, preference, score

LEAST = 1e-6  # a certain preference, as a probability whose logit is finite


@dataclass(frozen=True, kw_only=True)
class RSO(LogisticOrHinge):
    title: ClassVar[str] = "RSO"
    pair_rule: ClassVar[str] = "pair_off"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "64 answers at temperature 0.7, 8 of them accepted and paired off, labelled for "
            "certain by the reward model; one round, the best of several checkpoints.",
            source="arXiv:2309.06657: the best of its searches.",
            knobs={
                "beta": 0.5, "gamma": 0.05, "accept": 8, "reward": "baseline", "soft_labels": False,
            },
            round={
                "rounds_wanted": 1,
                "samples_per_prompt": 64,
                "temperature": 0.7,
                "pairs_from": "reward_model",
                "pair_rule": "pair_off",
                "reference": "initial",
                "replay": "none",
                "batch_size": 32,
                "candidates": 4,
            },
        ),
        "theory": Preset(
            "Draws of the policy as it is and soft labels; gamma equals beta, as in the derivation "
            "where one reward is sampled from and fitted.",
            source="arXiv:2309.06657: its derivation, where gamma is beta.",
            knobs={"beta": 0.5, "gamma": 0.5, "accept": 8, "reward": "score", "soft_labels": True},
            round={
                "rounds_wanted": 1,
                "samples_per_prompt": 64,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "pair_off",
                "reference": "initial",
                "replay": "none",
            },
        ),
    }  # fmt: skip

    @classmethod
    def offered(cls) -> dict[str, Preset]:
        """Four of eight answers are accepted in the quick one: it draws no more than eight."""
        return {**super().offered(), "quick": cls.presets["theory"].quick(8, accept=4)}

    beta: float = knob(
        0.5,
        "How selective the rejection sampling is, on the scale of the rewards: at 0 the best "
        "answers are kept, far above the rewards' spread any answer. The paper found 0.5 best. "
        "The loss does not read it; see gamma.",
        at_least=0,
    )
    gamma: float = knob(
        0.05,
        "How strongly the policy is held to its reference, which is DPO's beta. The paper sets "
        "it apart from the sampling's beta and found 0.05 best.",
        above=0,
    )
    accept: int = knob(
        8, "How many answers to each prompt are kept. The paper keeps 8 of 64.", at_least=2
    )
    reward: str = knob(
        "score",
        "What answers are accepted by: their score, or their share of votes where no model "
        "scored them (score); or, as published, the log-odds that they beat one other answer "
        "drawn at random (baseline). With a reward model's scores both accept alike.",
        choices=("score", "baseline"),
    )

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        rewards = self._rewards(judged, seed)
        kept = accepted(rewards, self.accept, self.beta, f"{seed}:{judged.prompt}:accept")
        return [
            self.example(judged, replace(c, chosen=kept[c.chosen], rejected=kept[c.rejected]))
            for c in RULES[rule](_only(judged, kept), seed)
        ]

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        chosen, rejected = (
            self.gamma * logps.ratio(role, "reference") for role in ("chosen", "rejected")
        )
        margin = self.gamma * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        implicit = {"rewards/chosen": chosen, "rewards/rejected": rejected}
        metrics = {**self.figures(logps, margin), **implicit}
        return Loss(self.likelihood(margin, labels), metrics)

    def _rewards(self, judged: Judged, seed: int) -> list[float]:
        count = len(judged.answers)
        if self.reward == "score" or not count:
            return [score(judged, k) for k in range(count)]
        against = random.Random(f"{seed}:{judged.prompt}:baseline").randrange(count)
        chances = [preference(judged, k, against) for k in range(count)]
        chances = [min(max(p, LEAST), 1 - LEAST) for p in chances]
        return [math.log(p / (1 - p)) for p in chances]


def accepted(rewards: Sequence[float], wanted: int, beta: float, seed: str) -> list[int]:
    """Statistical rejection sampling (algorithm 1 of arXiv:2309.06657): indices, as accepted.

    Passes over the candidates take each with probability exp((r - r_max) / beta), r_max being the
    best reward not accepted before the pass; they end at `wanted`, or when nothing is left. What
    the first pass takes follows pi exp(r / beta) / Z, exactly so where the best possible answer
    is among the candidates; later passes choose from those turned down, so they lean lower.
    """
    rng = random.Random(seed)
    left, found = list(range(len(rewards))), list[int]()
    while left and len(found) < wanted:
        best, rest = max(rewards[k] for k in left), list[int]()
        for k in left:
            short = rewards[k] - best
            chance = math.exp(short / beta) if beta else float(short == 0)
            takes = len(found) < wanted and rng.random() < chance
            (found if takes else rest).append(k)
        left = rest
    return found


def _only(judged: Judged, kept: Sequence[int]) -> Judged:
    """The same prompt with these answers and what was said of them, in this order."""
    place = {index: k for k, index in enumerate(kept)}
    votes = [v for v in judged.votes if v.i in place and v.j in place]
    return replace(
        judged,
        answers=tuple(judged.answers[k] for k in kept),
        votes=tuple(replace(v, i=place[v.i], j=place[v.j]) for v in votes),
        marks=tuple(replace(m, answer=place[m.answer]) for m in judged.marks if m.answer in place),
    )
