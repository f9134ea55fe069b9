"""Nash-MD - Nash learning by mirror descent (arXiv:2312.00886), in rounds.

The raters' game held to pi_ref by tau: pi_{t+1} = pi_mix * exp(P(y > pi_mix) / eta), where pi_mix
is pi_t^(1 - c) * pi_ref^c, c = tau / eta. Both answers of a pair are drawn from the mixture, and
the loss is INPO's: h = d - (1 - c) d_t - c d_ref is regressed onto (2p - 1) / (2 eta), whose
minimiser is that step (this form is ours; the paper's deep variant is a policy gradient per step,
which is not sound on answers sampled once a round). With a constant eta rounds settle near the
regularised Nash policy, at pi_ref * exp(P(y > pi_mix) / tau).

No engine samples the token by token geometric mixture, so the opponent is realised as the average
of the two policies in weight space; the loss uses the exact log-linear form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Draws, Labels, LogProbs, Loss, Preset, knob
from align.mirror import CYCLE, MirrorStep


@dataclass(frozen=True, kw_only=True)
class NashMD(MirrorStep):
    title: ClassVar[str] = "Nash-MD"
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "An even mixture and a pull of 0.1, the widely used implementation's settings, in "
            "rounds; two answers a prompt, compared by a reward model.",
            source="arXiv:2312.00886, with TRL's defaults.",
            knobs={"eta": 0.2, "tau": 0.1},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "random",
                "replay": "none",
                "epochs": 1,
            },
        ),
        "theory": Preset(
            "Two answers drawn alike from the mixture, one vote on them; a step that settles on "
            "mildly cyclic tastes.",
            source="arXiv:2312.00886: both answers of the mixture; the step is ours.",
            knobs={"eta": 0.3, "tau": 0.05},
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
        0.2,
        "Inverse step size of a round: smaller is a larger step. A pair that one side always "
        "wins is driven 1 / (2 eta) nats apart. With tau 0.1, 0.2 is TRL's even mixture.",
        above=0,
    )
    tau: float = knob(
        0.1,
        "Pull back to the first policy, at most eta. tau / eta is the first policy's share of "
        "the mixture that answers are drawn from; the usual shares are 0.125 to 0.5.",
        at_least=0,
    )

    def warnings(self) -> tuple[str, ...]:
        # The map's multipliers are (1 - c)(1 +- i s / eta) where tastes are cyclic: our derivation.
        if (1 - self.share) ** 2 * (1 + (CYCLE / self.eta) ** 2) < 1:
            return ()
        return (self.circling("(1 - tau / eta)^2 (1 + s^2 / eta^2) is below 1"),)

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        """All answers from the mixture; from one policy alone where it has the whole share."""
        if not self.tau:
            return super().draws(samples_per_prompt, temperature)
        if self.share == 1:
            return (Draws(n=samples_per_prompt, temperature=temperature, model="initial"),)
        return (
            Draws(
                n=samples_per_prompt,
                temperature=temperature,
                model="mixture",
                initial_share=self.share,
            ),
        )

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        return self.square(self.tilt(logps), labels)
