"""Answers as reward programs see them: the rows of a programs job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from align.judge_jobs import PROGRAM_ITEMS, PROGRAMS, ProgramItemRow
from align.programs import RewardProgram, to_json
from plumbline.collect.models import Completion


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
