"""Reward programs: what scores an answer, as data. Nothing here runs one (`align.sandbox` does).

A program is code in a safe subset of Python, a rubric that a judge answers, or both. The platform
scores the rubric first and hands the code the integers, so code is pure, repeatable and cheap.
Loops of ICPL (arXiv:2410.17233) change programs; here they are immutable and known by their hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["code", "rubric", "hybrid"]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A question that a judge answers of one answer with a whole number from 1 to 5."""

    id: str
    question: str
    anchors: Mapping[str, str] = field(default_factory=dict)  # what "1", "3" and "5" mean
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RewardProgram:
    """`code` defines `compute_reward(prompt, response, judge, meta)`, which returns
    {"total": float, "components": {name: float}}: `prompt` and `response` are texts, `judge` is
    {criterion id: 1..5}, `meta` is {"params": params, "tokens": int, "turns": int}. Without code
    (kind "rubric") the total is the weighted mean of the criteria, scaled to 0..1.
    """

    kind: Kind = "hybrid"
    code: str = ""
    rubric: tuple[Criterion, ...] = ()
    params: Mapping[str, float] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of all that a score depends on, but for the rubric's judge."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def to_json(program: RewardProgram) -> dict[str, Any]:
    return asdict(program)


def from_json(data: Mapping[str, Any]) -> RewardProgram:
    """Raises TypeError for fields that a program does not have."""
    fields = dict(data)
    fields["rubric"] = tuple(Criterion(**one) for one in fields.get("rubric", ()))
    return RewardProgram(**fields)
