"""A language model that holds both answers against principles, one at a time, in both orders.

Either each pair is held against one principle, drawn by weight, or against all of them, whose
log-odds are averaged by weight. What it said by each principle is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from align import jobs, judging
from align.judge_jobs import Held
from align.knobs import knob
from plumbline.judges import kind
from plumbline.judges.kind import Inputs, Pair
from plumbline.judges.models import JudgeVersion
from plumbline.judges.questioning import Asking


@dataclass(frozen=True, kw_only=True)
class ByPrinciples(Asking):
    title: ClassVar[str] = "Language model, by a constitution"
    what: ClassVar[str] = (
        "A language model says which answer complies better with a principle; principles are drawn "
        "or averaged by weight."
    )
    needs: ClassVar[frozenset[str]] = frozenset({kind.ENDPOINT, kind.CONSTITUTION})

    principles: str = knob(
        "one",
        "What a pair is held against: one principle, drawn by weight and always the same for the "
        "pair, or all, whose log-odds are averaged by weight at as many times the cost.",
        choices=("one", "all"),
    )

    def system(self) -> str:
        return judging.PRINCIPLE_SYSTEM

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        held = tuple(Held(**one) for one in version.settings["principles"])
        spec = self.asking(version, principles=held, choose=self.principles)
        return spec, kind.pair_inputs(pairs)
