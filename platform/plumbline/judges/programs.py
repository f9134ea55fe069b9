"""Versions that hold a reward program, and the job that scores answers by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from align import ladder, rubric
from align.judge_jobs import PROGRAM_ITEMS, PROGRAMS, ProgramItemRow, ProgramJob
from align.programs import RewardProgram, from_json, to_json
from plumbline.collect.models import Completion
from plumbline.judges import kind
from plumbline.judges.models import JudgeVersion

ID = "judge"  # the program's name inside a job


def freeze(frozen: dict[str, Any], parts: kind.Parts) -> dict[str, Any]:
    """A version's settings with its program checked, and with whom its rubric is asked of.

    Raises ValueError where the first rung of its ladder refuses the program, and where a rubric has
    nobody to answer it.
    """
    program = read(frozen[kind.PROGRAM])
    if problems := ladder.check(program):
        raise ValueError(f"The program cannot be used. {' '.join(problems)}")
    frozen = {**frozen, kind.PROGRAM: to_json(program)}
    if not program.rubric:
        return frozen
    if parts.endpoint is None:
        raise ValueError("The program has a rubric; its judge needs an endpoint to ask.")
    frozen[kind.ENDPOINT] = {"url": parts.endpoint.url, "model": parts.endpoint.model}
    return {**frozen, "wording": rubric.WORDING}


def job(
    version: JudgeVersion, answers: Iterable[Completion]
) -> tuple[ProgramJob, dict[str, Iterable[Mapping[str, Any]]]]:
    """The job in which a version's program scores answers. Raises ValueError where the code words a
    rubric's question differently by now."""
    program = read(version.settings[kind.PROGRAM])
    if program.rubric and version.settings["wording"] != rubric.WORDING:
        raise ValueError(
            f"{version} was made when rubrics were worded differently. Revise the judge."
        )
    spec = ProgramJob(
        asked=kind.asked(version) if program.rubric else None,
        cache=str(settings.RUBRICS_DIR),
        check=False,
    )
    return spec, inputs({ID: program}, answers)


def read(data: Any) -> RewardProgram:
    try:
        return from_json(data)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"That is no reward program: {error}.") from None


def item_row(completion: Completion) -> ProgramItemRow:
    """`tokens` of imported text, which nobody tokenized, are its words."""
    return ProgramItemRow(
        id=str(completion.pk),
        messages=completion.prompt.messages,
        text=completion.text,
        tokens=len(completion.token_ids or completion.text.split()),
    )


def inputs(
    programs: Mapping[str, RewardProgram], completions: Iterable[Completion]
) -> dict[str, Iterable[Mapping[str, Any]]]:
    """Of a job that has every program, by its id, score every answer. `prompt` of the completions
    is read."""
    return {
        PROGRAMS: [{"id": name, "program": to_json(one)} for name, one in programs.items()],
        PROGRAM_ITEMS: (item_row(one) for one in completions),
    }
