"""Several judges as one: their verdicts' strengths are averaged into a soft label.

It asks nobody. Its members are asked first, each in its own way, and what they have said by then is
what it pools; a pair on which too few have said anything has no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from align import jobs
from align.factor_jobs import MEMBERS, POOLED, MembersRow, PoolJob
from align.knobs import knob
from plumbline.fleet.models import Job
from plumbline.judges import kind
from plumbline.judges.kind import Inputs, Kind, Pair, Parts, Said
from plumbline.judges.models import JudgeVersion

LEAST = 2


@dataclass(frozen=True, kw_only=True)
class Pool(Kind):
    """`members` are versions of other judges, by the number of their row."""

    page: ClassVar[str] = "pool-new"
    title: ClassVar[str] = "Several judges, by strength"
    what: ClassVar[str] = (
        "The mean strength of what several judges have said of a pair, as one soft label."
    )
    smooth: float = knob(
        0.2,
        "What a label gives to the other side where more judges lean that way than lean with it.",
        at_least=0,
        at_most=0.5,
    )
    least: int = knob(2, "How many of the judges must have given a verdict.", at_least=1)
    members: tuple[int, ...] = field(default=())

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        unknown = values.keys() - {"smooth", "least", "members"}
        if unknown:
            raise ValueError(f"{cls.title} has no setting called {', '.join(sorted(unknown))}")
        return cls(**{**values, "members": tuple(sorted(set(values.get("members", ()))))})

    def freeze(self, parts: Parts) -> dict[str, Any]:
        if len(self.members) < LEAST:
            raise ValueError("Choose two judges or more.")
        if self.least > len(self.members):
            raise ValueError(f"There are {len(self.members)} judges; {self.least} cannot speak.")
        found = JudgeVersion.objects.in_bulk(self.members)
        if len(found) < len(self.members):
            raise ValueError("One of these judges is gone.")
        told = [found[pk].sha256 for pk in self.members]
        return {**super().freeze(parts), "versions": told}

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        from plumbline.judges import verdicts  # it reads kinds' words, and so imports this family

        project = version.judge.project_id
        versions = JudgeVersion.objects.filter(pk__in=self.members, judge__project=project)
        said = {str(one.pk): verdicts.of(one, pairs) for one in versions.order_by("pk")}

        def rows() -> Iterator[MembersRow]:
            for pair in pairs:
                ids = (pair[0].pk, pair[1].pk)
                told = {name: found.get(ids) for name, found in said.items()}
                yield {"id": kind.key(pair), "said": told}

        return PoolJob(smooth=self.smooth, least=self.least), {MEMBERS: rows()}

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        found = {row["id"]: row for row in jobs.read_rows(job.folder / POOLED)}
        for pair in pairs:
            row = found[kind.key(pair)]
            detail = {name: row[name] for name in ("strength", "spread", "contradicted")}
            q = row["p"]
            error = "" if q is not None else f"Fewer than {self.least} judges have given a verdict."
            other = None if q is None else 1 - q
            yield Said(pair[0].pk, pair[1].pk, q, other, detail, error=error)
