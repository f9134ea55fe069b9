"""SuperHF - Supervised Iterative Learning from Human Feedback (arXiv:2310.16763).

Of a prompt's answers the best-scored few are kept and trained on as plain text, with a pull to the
first policy: CE + c_kl * max(0, KL(pi_0 || pi)) + c_inv / CE, the divergence over the whole
vocabulary at the response's own positions. Without the pull it is best-of-n distillation.

Departures: the authors add up the divergences of a minibatch whose CE they average (they train on
one answer at a time, where it is the same), and take c_inv / CE of the minibatch; here both are
per answer. Draws are plain, not from the top 0.95. Answers that were cut off are never kept; a
prompt whose answers all score alike says nothing and is left out; one text is kept once. The pair
rule is not read.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Algorithm, Example, Labels, LogProbs, Loss, Preset, knob
from align.pairing import Judged, known, score


@dataclass(frozen=True, kw_only=True)
class SuperHF(Algorithm):
    title: ClassVar[str] = "SuperHF"
    references: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "The authors' LLaMA run: the best of 32 answers to one prompt a step, divergence "
            "coefficient 0.23.",
            source="arXiv:2310.16763: the authors' code.",
            knobs={"keep": 1, "kl": 0.23, "inverse": 0.0, "reduction": "mean"},
            round={
                "samples_per_prompt": 32,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "replay": "none",
                "epochs": 1,
                "batch_size": 1,
            },
        ),
        "theory": Preset(
            "Sums over tokens: the likelihood of whole answers, and a divergence on its scale.",
            source="arXiv:2310.16763, with likelihoods of whole answers.",
            knobs={"keep": 1, "kl": 0.23, "inverse": 0.0, "reduction": "sum"},
            round={
                "samples_per_prompt": 8,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "replay": "none",
                "epochs": 1,
            },
        ),
    }

    keep: int = knob(
        1,
        "How many answers to each prompt are trained on, from the best score down. The authors "
        "keep 1 of 32.",
        at_least=1,
    )
    kl: float = knob(
        0.23,
        "Weight of the divergence from the first policy. The authors take 0.23; their sweep "
        "ends at 0.5. At 0 it is not computed, which saves a model in memory.",
        at_least=0,
    )
    inverse: float = knob(
        0.0,
        "Weight of 1 / cross-entropy, which keeps answers from becoming certain: cross-entropy "
        "then settles at the weight's square root. The authors take 0.",
        at_least=0,
    )
    reduction: str = knob(
        "mean",
        "Whether cross-entropy and divergence are averaged over an answer's tokens, as in the "
        "authors' code (mean), or summed, which gives long answers more weight (sum).",
        choices=("mean", "sum"),
    )

    @property
    def roles(self) -> tuple[str, ...]:
        return ("chosen",)

    @property
    def divergences(self) -> tuple[str, ...]:
        return ("initial",) if self.kl else ()

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """The kept answers, best first: by a model's score, else by share of votes."""
        told = known(judged)
        if len({score(judged, index) for index in told}) < 2:
            return []
        random.Random(f"{seed}:{judged.prompt}").shuffle(told)  # equal scores: in any order
        kept: dict[str, int] = {}
        for index in sorted(told, key=lambda index: -score(judged, index)):
            if not judged.answers[index].truncated:
                kept.setdefault(judged.answers[index].text, index)
        return [Example({"chosen": index}) for index in list(kept.values())[: self.keep]]

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        tokens = labels.tokens["chosen"] if self.reduction == "mean" else 1
        cross_entropy = -logps.of("policy", "chosen") / tokens  # (B,)
        losses = cross_entropy + self.inverse / cross_entropy if self.inverse else cross_entropy
        metrics = {"cross_entropy": cross_entropy}
        if self.kl:
            divergence = logps.divergence("initial", "chosen") / tokens
            losses = losses + self.kl * divergence.clamp(min=0)
            metrics["divergence"] = divergence
        return Loss(losses, metrics)
