"""A reward program: P(better) is sigma of the difference of two totals over a temperature.

It scores each answer by itself, so the two orders say the same by construction. The whole program
is part of the version, and with it the model that scores its rubric, where it has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from align import jobs
from align.judge_jobs import PROGRAM_SCORES, UNASKED
from align.knobs import knob
from plumbline.fleet.models import Job
from plumbline.judges import kind, programs
from plumbline.judges.kind import Inputs, Kind, Pair, Parts, Said
from plumbline.judges.kinds.reward_model import sigmoid
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class ByProgram(Kind):
    title: ClassVar[str] = "Reward program"
    what: ClassVar[str] = (
        "A short program scores both answers; a language model first scores its rubric, where it "
        "has one. The difference over a temperature is the log-odds."
    )
    needs: ClassVar[frozenset[str]] = frozenset({kind.PROGRAM})

    temperature: float = knob(
        1.0,
        "What a difference of totals is divided by; calibration on people's votes finds it.",
        above=0,
        at_most=1000,
    )

    def freeze(self, parts: Parts) -> dict[str, Any]:
        """The program is refused where its ladder's first rung refuses it."""
        return programs.freeze(super().freeze(parts), parts)

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        """Raises ValueError where the code words a rubric's question differently by now."""
        answers = {answer.pk: answer for pair in pairs for answer in pair}
        return programs.job(version, answers.values())

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        """Nothing of pairs with an answer whose rubric a cap left unasked."""
        found = {row["item"]: row for row in jobs.read_rows(job.folder / PROGRAM_SCORES)}
        for first, second in pairs:
            rows = [found[str(first.pk)], found[str(second.pk)]]
            if any(row["error"] == UNASKED for row in rows):
                continue
            if error := next((row["error"] for row in rows if row["total"] is None), ""):
                yield Said(first.pk, second.pk, None, None, error=f"No score: {error}."[:300])
                continue
            q = sigmoid((rows[0]["total"] - rows[1]["total"]) / self.temperature)
            yield Said(
                first.pk,
                second.pk,
                q,
                1 - q,
                {
                    "totals": [row["total"] for row in rows],
                    "components": [row["components"] for row in rows],
                    "rubric": [row["judge"] for row in rows],
                },
            )
