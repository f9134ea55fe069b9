"""A language model that reads both answers, in both orders, and says which is better.

Five levels from "much better" to "much worse" where it says so in words; the probability of its
verdict's letter where the endpoint gives log-probabilities, which says more than a sampled word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from align import jobs
from plumbline.judges import kind
from plumbline.judges.kind import Inputs, Pair
from plumbline.judges.models import JudgeVersion
from plumbline.judges.questioning import Asking


@dataclass(frozen=True, kw_only=True)
class Pairwise(Asking):
    title: ClassVar[str] = "Language model, pair by pair"
    what: ClassVar[str] = (
        "A language model behind any OpenAI-compatible endpoint, or our own engine, reads both "
        "answers in both orders and says which is better."
    )
    needs: ClassVar[frozenset[str]] = frozenset({kind.ENDPOINT})
    guided: ClassVar[bool] = True

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        return self.asking(version), kind.pair_inputs(pairs)
