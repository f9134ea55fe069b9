"""A reward model: P(better) is sigma of the difference of two scores over a temperature.

Of an ensemble the members may be read as their mean, as the worst of them, or as their mean less a
penalty on where they disagree (arXiv:2310.02743); it scores each answer once, so the two orders say
the same by construction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings

from align import ensemble, jobs, objectives
from align.knobs import knob
from plumbline.collect.models import Completion
from plumbline.fleet.models import Job
from plumbline.judges import kind
from plumbline.judges.kind import Inputs, Kind, Pair, Parts, Said
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class ByReward(Kind):
    title: ClassVar[str] = "Reward model"
    what: ClassVar[str] = (
        "A reward model of this project scores both answers; the difference over a temperature is "
        "the log-odds."
    )
    needs: ClassVar[frozenset[str]] = frozenset({kind.REWARD_MODEL})

    reading: str = knob(
        "as trained",
        "How members of an ensemble are read: as the model reads them itself, as their mean, as "
        "the worst of them, or as their mean less a penalty on their variance. A single model has "
        "one reading.",
        choices=("as trained", "mean", "worst", "uncertainty"),
    )
    penalty: float = knob(
        0.5, "Times the members' variance, where that is the reading.", at_least=0, at_most=100
    )
    temperature: float = knob(
        0.0,
        "What a difference of scores is divided by; 0 takes the one that was measured for the "
        "model on votes it had not seen.",
        at_least=0,
        at_most=1000,
    )

    def freeze(self, parts: Parts) -> dict[str, Any]:
        model = parts.reward_model
        if model is not None and objectives.get(model.objective).forward == "side_by_side":
            raise ValueError(
                f"{model} compares answers and scores none; choose the generative kind."
            )
        frozen = super().freeze(parts)
        assert model is not None
        return {**frozen, "temperature": self.temperature or model.temperature}

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        model = version.reward_model
        assert model is not None
        spec = jobs.ScoreJob(
            reward_model=model.path,
            cache=str(settings.SCORES_DIR),
            max_length=settings.MAX_MODEL_LEN,
        )
        answers = {answer.pk: answer for pair in pairs for answer in pair}
        return spec, {jobs.ITEMS: (item_row(one) for one in answers.values())}

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        found = {row["id"]: row for row in jobs.read_rows(job.folder / jobs.SCORES)}
        temperature = version.settings["temperature"]
        for first, second in pairs:
            rows = [found[str(first.pk)], found[str(second.pk)]]
            scores = [self.score(row) for row in rows]
            if scores[0] is None or scores[1] is None:
                error = "The reward model could not score an answer: it is empty or too long."
                yield Said(first.pk, second.pk, None, None, error=error)
                continue
            q = sigmoid((scores[0] - scores[1]) / temperature)
            detail: dict[str, Any] = {"scores": scores}
            if len(rows[0]["members"]) > 1:
                detail["members"] = [row["members"] for row in rows]
                agree = ensemble.share(rows[0]["members"], rows[1]["members"])
                detail["members_for_first"] = agree
            yield Said(first.pk, second.pk, q, 1 - q, detail)

    def score(self, row: Any) -> float | None:
        """An answer's score by the chosen reading."""
        members = row["members"]
        if row["reward"] is None or self.reading == "as trained" or len(members) < 2:
            return None if row["reward"] is None else float(row["reward"])
        mean = math.fsum(members) / len(members)
        if self.reading == "worst":
            return float(min(members))
        if self.reading == "uncertainty":
            return mean - self.penalty * math.fsum((one - mean) ** 2 for one in members) / (
                len(members) - 1
            )
        return mean


def sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2


def item_row(completion: Completion) -> jobs.ItemRow:
    response = jobs.ResponseRow(
        id=str(completion.pk),
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason or None,
    )
    return {
        "id": str(completion.pk),
        "messages": completion.prompt.messages,
        "response": response,
    }
