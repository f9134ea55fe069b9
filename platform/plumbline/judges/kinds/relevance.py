"""R3's relevance as a judge: how near an answer is to its question, long enough and not repetitive.

An open question's answer is worth rel * LI * RP, a closed one's, of which an answer is known to be
right, F(rel to that) * RP (`align.factors.relevance_reward`). References are frozen into a version
by the prompt's digest. No vote is needed, so it can label before anybody has voted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from django.conf import settings

from align import factors, jobs, monotone
from align.factor_jobs import RELEVANCE, TEXTS, RelevanceJob, TextRow
from align.knobs import knob
from plumbline.collect.models import Completion
from plumbline.fleet.models import Job
from plumbline.judges.kind import Inputs, Kind, Pair, Parts, Said
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class Relevance(Kind):
    """`references` are right answers by the digest of their prompt. Which model embeds texts is the
    operator's choice (EMBEDDING_MODEL), and frozen into the version with its files."""

    page: ClassVar[str] = "relevance-new"
    title: ClassVar[str] = "Relevance (R3)"
    what: ClassVar[str] = (
        "How near an answer is to its question by a text embedding, times its length up to 400 "
        "words, times how little it repeats itself."
    )
    temperature: float = knob(
        0.25, "What a difference of rewards, 0 to 4 each, is divided by.", above=0, at_most=100
    )
    references: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        unknown = values.keys() - {"temperature", "references"}
        if unknown:
            raise ValueError(f"{cls.title} has no setting called {', '.join(sorted(unknown))}")
        return cls(**values)

    def freeze(self, parts: Parts) -> dict[str, Any]:
        folder = Path(settings.EMBEDDING_MODEL or settings.BASE_MODEL)
        weights = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not weights:
            raise ValueError(
                f"{folder} holds no model: config.json and safetensors, as transformers saves them."
            )
        told = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
        files = {one.name: one.stat().st_size for one in weights}
        frozen = super().freeze(parts)
        return {**frozen, "folder": str(folder), "config": told, "files": files}

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        spec = RelevanceJob(model=version.settings["folder"], cache=str(settings.SCORES_DIR))
        answers = {answer.pk: answer for pair in pairs for answer in pair}
        return spec, {TEXTS: (self._row(one) for one in answers.values())}

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        found = {row["id"]: row for row in jobs.read_rows(job.folder / RELEVANCE)}
        for first, second in pairs:
            rows = [found[str(one.pk)] for one in (first, second)]
            rewards = [
                factors.relevance_reward(row["relevance"], row["closed"], one.text)
                for row, one in zip(rows, (first, second), strict=True)
            ]
            q = monotone.sigmoid((rewards[0] - rewards[1]) / self.temperature)
            detail = {
                "rewards": rewards,
                "relevance": [row["relevance"] for row in rows],
                "closed": rows[0]["closed"],
            }
            yield Said(first.pk, second.pk, q, 1 - q, detail)

    def _row(self, answer: Completion) -> TextRow:
        row: TextRow = {
            "id": str(answer.pk),
            "messages": answer.prompt.messages,
            "text": answer.text,
        }
        reference = self.references.get(answer.prompt.digest)
        return {**row, "reference": reference} if reference else row
