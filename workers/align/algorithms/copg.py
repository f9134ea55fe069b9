"""CoPG - Contrastive Policy Gradient (arXiv:2406.19185).

Minimises (1 / (2 beta)) * ((R - R') - beta * (rho - rho'))^2 over pairs of independent answers,
each with a reward of its own: minus the published objective (R_{beta/2} - R'_{beta/2}) (rho - rho')
with R_b = R - b * rho, up to a constant. The gradient is a policy gradient with the other answer
as baseline; its only zero is pi_ref exp(R / beta) / Z, from whichever policy the answers come.

Nobody has to win: a pair of equal rewards says that they are equal. With one vote as the reward
(1 against 0) this is IPO at tau = beta / 2. The paper's beta could not be checked; 0.1 is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from align.algorithm import Algorithm, Example, Labels, LogProbs, Loss, Preset, knob
from align.pairing import SHAPINGS, Judged, PairChoice, as_one, meetings, score, usable


@dataclass(frozen=True, kw_only=True)
class CoPG(Algorithm):
    title: ClassVar[str] = "CoPG"
    pair_rule: ClassVar[str] = "pair_off"
    facts: ClassVar[tuple[str, ...]] = ("reward.chosen", "reward.rejected")
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "A reward model scores pairs of answers that were drawn beforehand; one round, the "
            "first policy as reference.",
            source="arXiv:2406.19185, by summaries; its algebra was checked anew.",
            knobs={"beta": 0.1},
            round={
                "rounds_wanted": 1,
                "samples_per_prompt": 2,
                "pairs_from": "reward_model",
                "pair_rule": "pair_off",
                "reference": "initial",
                "replay": "none",
            },
        ),
        "theory": Preset(
            "Several answers of each prompt, paired without looking at their scores, and all "
            "rounds' pairs: any sampling law has the same optimum.",
            source="arXiv:2406.19185: any two independent draws have the same optimum.",
            knobs={"beta": 0.1},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 4,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "pair_off",
                "reference": "initial",
                "replay": "all",
            },
        ),
    }

    beta: float = knob(
        0.1,
        "How strongly the policy is held to its reference, on the scale of the rewards: an "
        "answer whose reward is higher by beta should be e (2.7) times as likely. 0.1 is ours; "
        "fit it to the spread of your rewards.",
        above=0,
    )

    shaping: str = knob(
        "none",
        "par bounds the rewards (PAR): each is the mean chance to be preferred to the prompt's "
        "other answers, by the scores. beta is then on the scale of a chance.",
        choices=tuple(SHAPINGS),
    )

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs with the answer of higher reward as chosen; a rule says which answers meet."""
        pairs = usable(judged, [_oriented(judged, x) for x in meetings(judged, rule, seed)])
        return [self.example(judged, x) for x in (as_one(pairs) if rule == "all_pairs" else pairs)]

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        plain = super().example(judged, choice)
        reward = SHAPINGS[self.shaping]
        rewards = {f"reward.{role}": reward(judged, k) for role, k in plain.answers.items()}
        return plain.adding(facts=rewards)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        h = logps.gap("policy") - logps.gap("reference")  # (B,)
        apart = labels.of("reward.chosen") - labels.of("reward.rejected")
        residual = apart - self.beta * h
        metrics = {
            "h": h,
            "reward_gap": apart,
            "objective": (apart - self.beta / 2 * h) * h,
            "rewards/margins": self.beta * h,
            "rewards/accuracies": (h * apart > 0).to(h.dtype),
        }
        return Loss(residual**2 / (2 * self.beta), metrics)


def _oriented(judged: Judged, pair: PairChoice) -> PairChoice:
    """The answer of higher reward as chosen. The loss reads no p: 1/2 where rewards are equal."""
    ahead = score(judged, pair.chosen) - score(judged, pair.rejected)
    return replace(pair.turned() if ahead < 0 else pair, p=1.0 if ahead else 0.5)
