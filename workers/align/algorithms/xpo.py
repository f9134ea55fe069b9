"""XPO - Exploratory Preference Optimization (arXiv:2405.21046).

Each pair holds one answer of the policy and one of the first policy; the loss is DPO's plus
alpha * l_policy(the first policy's answer), whichever side that is. The added term is optimism:
with rewards centred under the first policy, -beta * E[l_policy] is the best value they promise, up
to a constant. It has no lower bound, so alpha stays tiny. The term and its weight (alpha, not
alpha * beta) follow two open implementations that agree; the paper's own schedule for alpha could
not be read. Pairs of two policy answers never arise here: they hold no answer to explore from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from align.algorithm import Draws, Example, Labels, LogProbs, Loss, Preset, knob
from align.margin import MarginAlgorithm
from align.pairing import RULES, Judged, PairChoice, as_one, preference, usable


@dataclass(frozen=True, kw_only=True)
class XPO(MarginAlgorithm):
    title: ClassVar[str] = "XPO"
    pair_rule: ClassVar[str] = "random"
    selection: ClassVar[str] = "across"
    facts: ClassVar[tuple[str, ...]] = ("explored.chosen", "explored.rejected")
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "One answer of the policy against one of the first policy, labelled by a reward "
            "model; all rounds' pairs; the first policy as reference.",
            source="arXiv:2405.21046, with TRL's alpha.",
            knobs={"beta": 0.1, "alpha": 1e-5},
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "random",
                "reference": "initial",
                "replay": "all",
                "epochs": 1,
            },
        ),
        "theory": Preset(
            "The same, every pair labelled by one vote, trained anew from the first policy, for "
            "the paper's step minimises over all pairs so far.",
            source="arXiv:2405.21046: each step minimises over all pairs so far.",
            knobs={"beta": 0.1, "alpha": 1e-5},
            round={
                "samples_per_prompt": 2,
                "temperature": 1.0,
                "overlap": 1,
                "pairs_from": "votes",
                "pair_rule": "voted",
                "reference": "initial",
                "replay": "all",
                "warm_start": False,
            },
        ),
    }

    alpha: float = knob(
        1e-5,
        "Weight of the exploration term for each nat. 1e-5 is TRL's default, which may also "
        "change from epoch to epoch; another implementation takes 5e-6.",
        at_least=0,
    )

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        """Half of the answers from each policy, at least one."""
        other = max(1, samples_per_prompt // 2)
        mine = max(1, samples_per_prompt - other)
        first = Draws(n=other, temperature=temperature, source="reference", model="initial")
        return (*super().draws(mine, temperature), first)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs of one answer of each policy: those people judged ("voted"), all of them, weighing
        as one ("all_pairs"), or by any other rule couples in which each answer meets one other."""
        if rule == "voted":
            found = [x for x in RULES[rule](judged, seed) if _across(judged, x.chosen, x.rejected)]
        else:
            found = _couples(judged, everyone=rule == "all_pairs")
        return [self.example(judged, pair) for pair in found]

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        explored = {
            "explored.chosen": float(_first(judged, choice.chosen)),
            "explored.rejected": float(_first(judged, choice.rejected)),
        }
        return super().example(judged, choice).adding(facts=explored)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        margin = self.beta * (logps.gap("policy") - logps.gap("reference"))  # (B,)
        preferred = self.likelihood(margin, labels)
        explored = labels.of("explored.chosen") * logps.of("policy", "chosen")
        explored = explored + labels.of("explored.rejected") * logps.of("policy", "rejected")
        term = self.alpha * explored
        metrics = {
            **self.figures(logps, margin),
            "loss/preference": preferred,
            "loss/explore": term,
        }
        return Loss(preferred + term, metrics)


def _first(judged: Judged, index: int) -> bool:
    """Whether the first policy wrote this answer."""
    return judged.answers[index].source == "reference"


def _across(judged: Judged, i: int, j: int) -> bool:
    return {judged.answers[i].source, judged.answers[j].source} == {"policy", "reference"}


def _couples(judged: Judged, *, everyone: bool) -> list[PairChoice]:
    """An answer of each policy, met without a look at scores and oriented by preference."""
    by = {
        source: [k for k, a in enumerate(judged.answers) if a.source == source]
        for source in ("policy", "reference")
    }
    couples = product(*by.values()) if everyone else zip(*by.values(), strict=False)
    pairs = []
    for i, j in couples:
        p = preference(judged, i, j)
        if p != 0.5:
            pair = PairChoice(i, j, p, 1.0)
            pairs.append(pair if p > 0.5 else pair.turned())
    found = usable(judged, pairs)
    return as_one(found) if everyone else found
