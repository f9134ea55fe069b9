"""INPO - Iterative Nash Policy Optimization (arXiv:2407.00617).

One step of mirror descent in the game where two policies meet before the raters: the loss's
minimiser is pi_ref^(tau/eta) * pi_t^(1 - tau/eta) * exp(P(y > pi_t) / eta), whose fixed point is
the Nash policy of the game held to pi_ref by tau. Needs no reward, so tastes may be cyclic.

Trained in the form eta * h^2 - (2p - 1) * h, which has the published minimiser and gradients of
a sane size; the published value (h - (2p - 1) / (2 eta))^2 is logged as `raw`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Algorithm, Labels, LogProbs, Loss, Preset, knob

CYCLE = 0.1  # largest |Im| of a taste's linearised game, of which the default warns: a mild cycle


@dataclass(frozen=True, kw_only=True)
class INPO(Algorithm):
    title: ClassVar[str] = "INPO"
    references: ClassVar[tuple[str, ...]] = ("initial", "round_start")
    pair_rule: ClassVar[str] = "tournament"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Eight answers, a knock-out among them whose winner must beat its loser once more; "
            "eta 0.005, tau a third of it; only this round's pairs.",
            knobs={"eta": 0.005, "tau": 0.005 / 3},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 8,
                "pairs_from": "reward_model",
                "pair_rule": "tournament",
                "replay": "none",
                "epochs": 2,
            },
        ),
        "theory": Preset(
            "Two answers drawn alike, one vote on them: what the paper's proof needs. A step that "
            "converges on cyclic tastes too.",
            knobs={"eta": 0.3, "tau": 0.1},
            round={
                "samples_per_prompt": 2,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "replay": "none",
            },
        ),
    }

    eta: float = knob(
        0.005,
        "Step size of a round, as its inverse: the target of a certain pair is 1 / (2 eta) nats.",
        above=0,
    )
    tau: float = knob(
        0.005 / 3, "Pull to the first policy, at most eta; at 0 only the step size holds.",
        at_least=0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau > self.eta:
            raise ValueError(f"tau must be at most eta, {self.eta:g}, not {self.tau:g}")

    def warnings(self) -> tuple[str, ...]:
        if self.tau and self.eta > (self.tau**2 + CYCLE**2) / (2 * self.tau):
            return ()
        return (
            f"With eta = {self.eta:g} and tau = {self.tau:g} rounds would circle instead of "
            "settling if raters' tastes are cyclic; they settle when eta is above "
            f"(tau^2 + s^2) / (2 tau), with s near {CYCLE:g} for a mild cycle and 0 for none.",
        )

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        share = self.tau / self.eta
        opponent = share * logps.gap("initial") + (1 - share) * logps.gap("round_start")
        h = logps.gap("policy") - opponent  # (B,)
        pull = 2 * labels.p - 1
        metrics = {
            "h": h,
            "raw": (h - pull / (2 * self.eta)) ** 2,
            "rewards/accuracies": (h > 0).to(h.dtype),
        }
        return Loss(self.eta * h**2 - pull * h, metrics)
