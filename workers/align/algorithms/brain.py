"""BRAIn - Bayesian Reward-conditioned Amortized Inference (arXiv:2402.02479).

The target is the prior given that the answer is good, pi_ref * exp(r / gamma) / Z. Of n draws from
the round's start, the proposal, let a be the normalised target / proposal and b the normalised
policy / proposal; the authors' gradient is -sum_i (a_i - b_i) grad log pi(y_i). It is trained as
the loss KL(a || b), whose gradient is exactly that, b being a softmax of log-ratios (this step is
ours). The loss is never negative, and 0 on all draws only when the policy is the target.

Departures: draws that were cut off count as never drawn; a prompt's draws are split into groups of
n that weigh as one together. The pair rule is not read.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import Algorithm, Example, Labels, LogProbs, Loss, Preset, knob
from align.pairing import SHAPINGS, Judged, known

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BRAIn(Algorithm):
    title: ClassVar[str] = "BRAIn"
    references: ClassVar[tuple[str, ...]] = ("reference", "round_start")
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Eight draws of each prompt, as in the authors' experiments, scored by a reward model; "
            "the first policy is the prior. Fit gamma to the spread of your scores.",
            source="arXiv:2402.02479, by summaries of its experiments.",
            knobs={"n": 8, "gamma": 1.0},
            round={
                "samples_per_prompt": 8,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "reference": "initial",
                "replay": "none",
            },
        ),
        "theory": Preset(
            "Plain draws (temperature 1), each seen once: the unbiased estimate of the "
            "self-normalised divergence, which holds for any n.",
            source="arXiv:2402.02479: what its estimate is unbiased for.",
            knobs={"n": 4, "gamma": 1.0},
            round={
                "samples_per_prompt": 4,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "reference": "initial",
                "replay": "none",
                "epochs": 1,
            },
        ),
    }

    n: int = knob(
        4,
        "How many answers make one example; a prompt with more of them gives several examples. "
        "The authors use 8.",
        at_least=2,
        at_most=8,
    )
    gamma: float = knob(
        1.0,
        "Temperature of the rewards: an answer whose reward is higher by gamma should be e "
        "(2.7) times as likely. Near 0 only the best answer counts. 1 is ours; fit it to the "
        "spread of your scores.",
        above=0,
    )
    target: str = knob(
        "softmax",
        "How an example's answers share the target: in proportion to their weights (softmax), "
        "or all to the heaviest (argmax). Argmax with n = 2 and the round's start as reference "
        "is DPO with beta 1, the paper's DPO-sft.",
        choices=("softmax", "argmax"),
    )

    shaping: str = knob(
        "none",
        "par bounds the rewards (PAR): each is the mean chance to be preferred to the prompt's "
        "other answers, by the scores. gamma is then on the scale of a chance.",
        choices=tuple(SHAPINGS),
    )

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(f"answer_{i}" for i in range(1, self.n + 1))

    @property
    def facts(self) -> tuple[str, ...]:
        return tuple(f"reward.{role}" for role in self.roles)

    def warnings(self) -> tuple[str, ...]:
        if self.target == "softmax" or self.n == 2:
            return ()
        return ("With argmax every draw but the best is pushed down, good ones as hard as bad.",)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Groups of n draws with their rewards: a model's scores, else their shares of votes."""
        drawn = [index for index in known(judged) if not judged.answers[index].truncated]
        random.Random(f"{seed}:{judged.prompt}").shuffle(drawn)
        groups = [drawn[at : at + self.n] for at in range(0, len(drawn) - self.n + 1, self.n)]
        told = [g for g in groups if len({judged.answers[index].text for index in g}) > 1]
        return [self._example(judged, group, 1 / len(told)) for group in told]

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        rewards = [labels.of(f"reward.{role}") for role in self.roles]
        starts = [logps.of("round_start", role) for role in self.roles]
        priors = [logps.of("reference", role) for role in self.roles]
        policy = [logps.of("policy", role) for role in self.roles]
        a = self._target(
            [p + r / self.gamma - q for p, r, q in zip(priors, rewards, starts, strict=True)]
        )
        b = _log_shares([p - q for p, q in zip(policy, starts, strict=True)])
        losses = _total([x * (log_x - y) for (x, log_x), y in zip(a, b, strict=True)])
        metrics = {
            "reward": _total([y.exp() * r for y, r in zip(b, rewards, strict=True)]),
            "effective_draws": 1 / _total([x**2 for x, _ in a]),
        }
        return Loss(losses, metrics)

    def _example(self, judged: Judged, group: Sequence[int], weight: float) -> Example:
        answers = dict(zip(self.roles, group, strict=True))
        reward = SHAPINGS[self.shaping]
        facts = {f"reward.{role}": reward(judged, index) for role, index in answers.items()}
        return Example(answers, weight=weight, facts=facts)

    def _target(self, logits: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Each draw's weight under the target and its logarithm, (B,); equals share argmax."""
        if self.target == "softmax":
            return [(share.exp(), share) for share in _log_shares(logits)]
        best = reduce(lambda x, y: x.maximum(y), logits)
        hits = [(x == best).to(x.dtype) for x in logits]
        count = _total(hits)
        return [(hit / count, -count.log()) for hit in hits]


def _total(parts: Sequence[Tensor]) -> Tensor:
    return reduce(lambda x, y: x + y, parts)


def _log_shares(logits: Sequence[Tensor]) -> list[Tensor]:
    """Log-softmax over a list, without importing torch."""
    total = reduce(lambda x, y: x.logaddexp(y), logits)
    return [x - total for x in logits]
