"""A pairwise generative reward model: a language model trained on people's votes to name the better
of two answers, asked in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings

from align import jobs, objectives
from plumbline.judges import kind
from plumbline.judges.kind import Inputs, Kind, Pair, Parts
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class Generative(Kind):
    title: ClassVar[str] = "Generative reward model"
    what: ClassVar[str] = (
        "A reward model of this project that was trained to name the better of two answers reads "
        "both, in both orders."
    )
    needs: ClassVar[frozenset[str]] = frozenset({kind.REWARD_MODEL})

    def freeze(self, parts: Parts) -> dict[str, Any]:
        model = parts.reward_model
        if model is not None and objectives.get(model.objective).forward != "side_by_side":
            raise ValueError(f"{model} scores answers one by one; choose the kind reward model.")
        return super().freeze(parts)

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        model = version.reward_model
        assert model is not None
        spec = jobs.CompareJob(reward_model=model.path, max_length=settings.MAX_MODEL_LEN)
        return spec, kind.pair_inputs(pairs)
