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

from align.algorithm import Labels, LogProbs, Loss, Preset, knob
from align.mirror import CYCLE, MirrorStep


@dataclass(frozen=True, kw_only=True)
class INPO(MirrorStep):
    title: ClassVar[str] = "INPO"
    pair_rule: ClassVar[str] = "tournament"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Eight answers, a knock-out among them whose winner must beat its loser once more; "
            "eta 0.005, tau a third of it; only this round's pairs.",
            source="arXiv:2407.00617; passes over the data as in arXiv:2405.07863.",
            knobs={"eta": 0.005, "tau": 0.001667},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 8,
                "pairs_from": "reward_model",
                "pair_rule": "tournament",
                "replay": "none",
                "epochs": 2,
                "batch_size": 128,
            },
        ),
        "theory": Preset(
            "Two answers drawn alike, one vote on them: what the paper's proof needs. A step that "
            "converges on cyclic tastes too.",
            source="arXiv:2407.00617, Proposition 6; the step keeps eta > (tau^2 + s^2) / (2 tau).",
            knobs={"eta": 0.3, "tau": 0.1},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "overlap": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "replay": "none",
            },
        ),
    }

    eta: float = knob(
        0.005,
        "Inverse step size of a round: smaller is a larger step. A pair that one side always "
        "wins is driven 1 / (2 eta) nats apart. The paper tried 0.002 to 0.1 and takes 0.005.",
        above=0,
    )
    tau: float = knob(
        0.001667,
        "Pull back to the first policy, from 0 (none) to eta (each step is then taken from it "
        "alone). The paper takes a third of eta.",
        at_least=0,
    )

    def warnings(self) -> tuple[str, ...]:
        if self.tau and self.eta > (self.tau**2 + CYCLE**2) / (2 * self.tau):
            return ()
        return (self.circling("eta is above (tau^2 + s^2) / (2 tau)"),)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        return self.square(self.tilt(logps), labels)
