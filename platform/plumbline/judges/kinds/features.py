"""A reward model over a handful of factors: weights that were fitted to people's votes.

The score is monotone in every factor that was declared to help or to harm, and each weight is told
with its interval, so a person can read why an answer is preferred.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from align import monotone
from plumbline.fleet.models import Job
from plumbline.judges.factored import Factored
from plumbline.judges.kind import Pair, Parts, Said
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class Features(Factored):
    """`weights` and `scales` by factor, `intervals` the ends of 95 % ones, `signs` as declared;
    `measured` what the fit's job said of held-out votes."""

    page: ClassVar[str] = "factor-weights"
    title: ClassVar[str] = "Weighed factors"
    what: ClassVar[str] = (
        "A weighted sum of factors, fitted to people's votes and never against what was declared "
        "of a factor."
    )
    weights: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    signs: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        unknown = values.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise ValueError(f"{cls.title} has no setting called {', '.join(sorted(unknown))}")
        return cls(**values)

    def factors(self) -> list[str]:
        return list(self.weights)

    def freeze(self, parts: Parts) -> dict[str, Any]:
        if not self.weights:
            raise ValueError("Weights come from people's votes; fit them first.")
        for name, weight in self.weights.items():
            if not math.isfinite(weight) or not self.scales.get(name, 0) > 0:
                raise ValueError(f"{name} has no weight and scale that can be used.")
            if weight * self.signs.get(name, 0) < 0:
                raise ValueError(f"{name} weighs against what was declared of it.")
        return super().freeze(parts)

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        values = self.values(job, pairs)
        for first, second in pairs:
            both = values[first.pk], values[second.pk]
            missing = sorted({name for one in both for name, value in one.items() if value is None})
            if missing:
                error = f"An answer has no {', '.join(missing)}."
                yield Said(first.pk, second.pk, None, None, {"values": both}, error=error)
                continue
            told = [{name: float(value or 0.0) for name, value in one.items()} for one in both]
            parts = {
                name: weight * (told[0][name] - told[1][name]) / self.scales[name]
                for name, weight in self.weights.items()
            }
            q = monotone.sigmoid(math.fsum(parts.values()))
            yield Said(first.pk, second.pk, q, 1 - q, {"values": told, "parts": parts})
