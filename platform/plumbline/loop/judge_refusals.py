"""What a round with AI judges would trip over later, told when it is launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plumbline.judges.models import Calibration, Judge, JudgeVersion
from plumbline.loop import judging
from plumbline.loop.models import JUDGED, Experiment

# Settings that matter in judged rounds alone.
NUMBERS = ("slice_percent", "judge_errors", "judge_dollars", "votes_at_most", "face_off_percent")

Found = Iterator[tuple[str, str]]


def of(data: Mapping[str, Any], judges: Mapping[str, Judge]) -> Found:
    """(field, sentence) for what is wrong with the judges of an experiment's settings."""
    labellers: list[tuple[JudgeVersion, Calibration | None]] = []
    if data.get("labels") in JUDGED and "labellers" in data:
        chosen = [judges[pk] for pk in data["labellers"]]
        if not chosen:
            yield "labellers", "Choose the judge that labels."
        sorting = data["labels"] == Experiment.Labels.TRIAGE
        try:
            labellers = [judging.pinned(judge, sorting) for judge in chosen]
        except ValueError as error:
            yield "labellers", str(error)
        else:
            if labellers and sorting and "judge_errors" in data:
                yield from _trusted(labellers, data["judge_errors"])
    if data.get("judge") == Experiment.Judge.JUDGE and "evaluator" in data:
        yield from _evaluator(judges.get(data["evaluator"]), labellers)


def usual(name: str) -> Any:
    """What a setting is where nobody says."""
    field: Any = Experiment._meta.get_field(name)
    return field.get_default()


def _trusted(labellers: list[tuple[JudgeVersion, Calibration | None]], percent: int) -> Found:
    rows = [row for _, row in labellers]
    if judging.trusted(rows, judging.mix(rows), percent / 100) is None:
        yield (
            "judge_errors",
            f"By people's votes so far there is no confidence from which the judges surely err on "
            f"at most {percent} % of what they say, so people would label everything. Allow more "
            "errors, gather more votes for the calibration, or let people decide.",
        )


def _evaluator(
    evaluator: Judge | None, labellers: list[tuple[JudgeVersion, Calibration | None]]
) -> Found:
    if evaluator is None:
        yield "evaluator", "Choose the judge that evaluates."
        return
    version, _ = judging.pinned(evaluator, False)
    for labeller, _ in labellers:
        if kin := judging.related(version, labeller):
            yield "evaluator", kin
            return
