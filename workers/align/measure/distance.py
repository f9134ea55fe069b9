"""How different two reward models are on a fixed set of answers: a STARC distance.

For one-step text the canonical form of a reward is itself less its mean over the prompt's answers;
divided by its norm, two of them are half the length of their difference apart (arXiv:2309.15257):

    d = 1/2 || c(R1)/||c(R1)|| - c(R2)/||c(R2)|| || = sqrt((1 - rho) / 2)

with rho the pooled correlation within prompts. 0: the same order and spacing up to a positive scale
and a shift a prompt; 1: opposite; unrelated ones are about 0.71 apart. It depends on the answers
that are looked at, and a monotone change of scale moves it, which Kendall's tau does not see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.measure.confounds import centred, kendall
from align.measure.intervals import RESAMPLES, Interval, over_groups

Rewards = Mapping[str, Sequence[float]]  # by prompt: one score an answer
FLAT = 1e-12  # a norm below this is a model that tells no two answers of a prompt apart


@dataclass(frozen=True)
class Distance:
    starc: Interval
    tau: float | None  # Kendall's tau-b, pairs within prompts pooled


def distance(ours: Rewards, theirs: Rewards, resamples: int = RESAMPLES) -> Distance:
    """Every prompt counts alike. Two models that tell nothing apart are 0 from each other, and 1/2
    from any that does. Raises ValueError unless both scored the same answers."""
    if {k: len(v) for k, v in ours.items()} != {k: len(v) for k, v in theirs.items()} or not ours:
        raise ValueError("a distance needs two models' scores of the same answers")
    groups = {
        prompt: list(zip(centred(ours[prompt]), centred(theirs[prompt]), strict=True))
        for prompt in ours
    }
    starc = over_groups(groups, _starc, resamples)
    assert starc is not None, "there is at least one prompt"
    found = [kendall(ours[prompt], theirs[prompt]) for prompt in ours]
    untied = sum(scale for _, scale in found)
    return Distance(starc, sum(agree for agree, _ in found) / untied if untied else None)


def _starc(prompts: Sequence[Sequence[tuple[float, float]]]) -> float:
    first = second = product = 0.0
    for rows in prompts:
        first += sum(a * a for a, _ in rows) / len(rows)
        second += sum(b * b for _, b in rows) / len(rows)
        product += sum(a * b for a, b in rows) / len(rows)
    flat = (first / len(prompts) < FLAT) + (second / len(prompts) < FLAT)
    if flat:
        return 0.0 if flat == 2 else 0.5
    rho = product / math.sqrt(first * second)
    return math.sqrt(max(0.0, 1 - rho) / 2)
