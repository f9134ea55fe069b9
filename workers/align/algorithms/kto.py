"""KTO - Kahneman-Tversky Optimization (arXiv:2402.01306), for answers good or bad by themselves.

With rho = log pi(y)/pi_ref(y), a desirable answer costs lambda_D * (1 - sigmoid(beta (rho - z0)))
and an undesirable one lambda_U * (1 - sigmoid(beta (z0 - rho))). The reference point z0 is
max(0, mean rho of mismatched pairs), answers under another prompt; it is a constant to the
gradient. The loss saturates on both sides, so an answer that cannot be moved is let go.

Every vote gives its winner as desirable and its loser as undesirable, every mark ("both bad"
included) its answer; what is said of one answer is summed up in one example. Departures: z0 is
taken over the whole batch, not a part of it, and its mismatched answers come from the whole data
set, in a fixed pairing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.algorithm import (
    MISMATCHED,
    Algorithm,
    Example,
    Labels,
    LogProbs,
    Loss,
    Preset,
    knob,
    logsigmoid,
)
from align.pairing import RULES, Judged

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class KTO(Algorithm):
    title: ClassVar[str] = "KTO"
    probes: ClassVar[tuple[str, ...]] = (MISMATCHED,)
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Both sides weighted alike, every winner simply good and every loser simply bad, one "
            "pass in batches of 32.",
            source="arXiv:2402.01306: equal weights and the batch that it advises.",
            knobs={"beta": 0.1, "desirable": 1.0, "undesirable": 1.0, "soft_labels": False},
            round={
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "none",
                "epochs": 1,
                "batch_size": 32,
            },
        ),
        "theory": Preset(
            "All that people ever said, split votes as the shares they are, and large batches, "
            "whose reference point is less noisy.",
            source="arXiv:2402.01306: its value function, with a steadier reference point.",
            knobs={"beta": 0.1, "desirable": 1.0, "undesirable": 1.0, "soft_labels": True},
            round={
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
                "batch_size": 64,
            },
        ),
    }

    beta: float = knob(
        0.1,
        "How fast the loss flattens as an answer moves away from the reference: a higher beta "
        "holds the policy closer. 0.1 is TRL's default.",
        above=0,
    )
    desirable: float = knob(
        1.0,
        "Weight of good answers (lambda_D); raise it where they are rare. The paper advises "
        "weight times number of the good, divided by that of the bad, between 1 and 4/3 (some "
        "summaries say 3/2).",
        at_least=0,
    )
    undesirable: float = knob(
        1.0,
        "Weight of bad answers (lambda_U). Above the other weight, losses count for more than "
        "gains.",
        at_least=0,
    )
    soft_labels: bool = knob(
        True,
        "An answer in a split vote counts as good by its share of the votes. Off, the "
        "majority's word is certain.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.desirable and not self.undesirable:
            raise ValueError("desirable and undesirable cannot both be 0: nothing would be learned")

    @property
    def roles(self) -> tuple[str, ...]:
        return ("answer",)

    def warnings(self) -> tuple[str, ...]:
        if self.desirable and self.undesirable:
            return ()
        return ("Only one side is trained; the policy then drifts until the loss saturates.",)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """One example an answer: p = how far it is called good, weight = how often."""
        said: dict[int, list[tuple[float, float]]] = {}
        for choice in RULES[rule](judged, seed):
            if choice.p == 0.5:
                continue  # a tie calls neither good nor bad
            p = choice.p if self.soft_labels else 1.0
            said.setdefault(choice.chosen, []).append((p, choice.weight))
            said.setdefault(choice.rejected, []).append((1 - p, choice.weight))
        for mark in judged.marks:
            if not (mark.good and judged.answers[mark.answer].truncated):
                said.setdefault(mark.answer, []).append((float(mark.good), mark.weight))
        found = []
        for index, words in sorted(said.items()):
            weight = sum(w for _, w in words)
            if weight:
                p = sum(p * w for p, w in words) / weight
                found.append(Example({"answer": index}, p, weight))
        return found

    def baseline(self, logps: LogProbs) -> Tensor:
        """z0 = max(0, mean rho) over the batch's mismatched pairs."""
        return logps.ratio(MISMATCHED, "reference").mean().clamp(min=0)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        assert labels.baseline is not None, "the trainer computes the baseline of the probes"
        z0 = labels.baseline.detach()
        rho = logps.ratio("answer", "reference")  # (B,)
        gain = self.beta * (rho - z0)
        # 1 - sigmoid(x) = sigmoid(-x)
        good = self.desirable * logsigmoid(-gain).exp()
        bad = self.undesirable * logsigmoid(gain).exp()
        side = 2 * labels.p - 1
        metrics = {
            "rewards/answer": self.beta * rho,
            "rewards/margins": side * gain,
            "rewards/accuracies": (side * gain > 0).to(gain.dtype),
            "reference_point": z0 + 0 * rho.detach(),
            "desirable": labels.p,
        }
        return Loss(labels.p * good + (1 - labels.p) * bad, metrics)
