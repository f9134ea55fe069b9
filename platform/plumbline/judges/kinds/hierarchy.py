"""A hierarchy of factors: the most important one on which two answers differ decides (HERON).

Margins are measured when a version is made and are part of it. A pair that no level decides has no
verdict, so that nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from align import hierarchy
from align.hierarchy import Level
from align.knobs import knob
from plumbline.fleet.models import Job
from plumbline.judges import factored
from plumbline.judges.factored import Factored
from plumbline.judges.kind import Pair, Parts, Said
from plumbline.judges.models import JudgeVersion

UNDECIDED = "No level of the hierarchy decides between these answers."


@dataclass(frozen=True, kw_only=True)
class Hierarchy(Factored):
    """`levels` are fields of `align.hierarchy.Level`; `margins` are in each factor's own unit."""

    page: ClassVar[str] = "hierarchy-new"
    title: ClassVar[str] = "Hierarchy of factors (HERON)"
    what: ClassVar[str] = (
        "Factors in order of importance: the first on which two answers differ by more than its "
        "margin decides."
    )
    certainty: float = knob(
        0.9, "P(better) of the answer that a level decides for.", above=0.5, at_most=1.0
    )
    levels: tuple[Mapping[str, Any], ...] = field(default=())
    margins: tuple[float, ...] = field(default=())

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        unknown = values.keys() - {"certainty", "levels", "margins"}
        if unknown:
            raise ValueError(f"{cls.title} has no setting called {', '.join(sorted(unknown))}")
        given = {name: tuple(values.get(name, ())) for name in ("levels", "margins")}
        return cls(**{**values, **given})

    def factors(self) -> list[str]:
        return [str(one["factor"]) for one in self.levels]

    def freeze(self, parts: Parts) -> dict[str, Any]:
        order = self.order()
        hierarchy.check(order)
        if len(self.margins) != len(order):
            raise ValueError("Each level needs a margin, measured on answers.")
        return super().freeze(parts)

    def order(self) -> list[Level]:
        return hierarchy.from_json(self.levels)

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        values, order = self.values(job, pairs), self.order()
        for first, second in pairs:
            one, other = values[first.pk], values[second.pk]
            found = hierarchy.decide(order, self.margins, one, other)
            detail: dict[str, Any] = {"values": [one, other]}
            if found.level is None:
                yield Said(first.pk, second.pk, None, None, detail, error=UNDECIDED)
                continue
            level = order[found.level]
            detail |= {
                "level": found.level + 1,
                "factor": level.factor,
                "title": factored.title(level.factor),
                "difference": found.difference,
                "margin": self.margins[found.level],
            }
            q = self.certainty if found.ahead > 0 else 1 - self.certainty
            yield Said(first.pk, second.pk, q, 1 - q, detail)
