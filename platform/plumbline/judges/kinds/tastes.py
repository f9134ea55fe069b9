"""A mixture of tastes read for somebody: one rater, a group, or any weighing of its heads (MiCRo).

What a mixture says to everybody is its gate's mean. Read for somebody, every head counts as much as
that one's votes gave it, and the gate is left out. The weights are part of the version, so a rater
whose taste moves needs a new version before the judge moves with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from align import jobs
from plumbline.judges.kind import Inputs, Pair, Parts
from plumbline.judges.kinds.reward_model import ByReward
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class ByTaste(ByReward):
    """`heads`: how much each head counts, summing to 1. `whose`: for whom it is read, in words."""

    page: ClassVar[str] = "tastes-new"
    title: ClassVar[str] = "Mixture of tastes, for somebody"
    what: ClassVar[str] = (
        "A mixture reward model of this project, read for one rater or a group of them: their own "
        "weights of its heads, or weights that you give."
    )

    heads: tuple[float, ...] = field(default=())
    whose: str = field(default="")

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        known = {one.name for one in cls.knobs()} | {"heads", "whose"}
        if unknown := values.keys() - known:
            raise ValueError(f"{cls.title} has no setting called {', '.join(sorted(unknown))}")
        return cls(**{**values, "heads": _shares(values.get("heads", ()))})

    def freeze(self, parts: Parts) -> dict[str, Any]:
        model = parts.reward_model
        if model is not None:
            there = len(model.metrics.get("shares", []))
            if model.objective != "mixture" or not there:
                raise ValueError(f"{model} is no mixture of tastes; it says the same to everybody.")
            if len(self.heads) != there:
                raise ValueError(f"{model} has {there} heads; {len(self.heads)} weights are given.")
        return super().freeze(parts)

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        spec, inputs = super().job(version, pairs)
        assert isinstance(spec, jobs.ScoreJob)
        return replace(spec, tastes=list(self.heads)), inputs


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights of heads, summing to 1 and rounded so that the same ones hash alike."""
    if not weights:
        return ()
    if not all(math.isfinite(one) and one >= 0 for one in weights) or not sum(weights):
        raise ValueError("Weights of heads are 0 or more, and one of them is above 0.")
    return tuple(round(one / sum(weights), 6) for one in weights)
