"""TRL's preference type with an explicit prompt: what DPOTrainer is recommended to be given.

Conversational: `prompt`, `chosen` and `rejected` are lists of messages, the answers' of one.
Standard: strings, where the prompt ends with the mark after which the assistant speaks. A prompt
without marks is read as one question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plumbline.transfer import checks, judgements, trl
from plumbline.transfer.checks import Problem
from plumbline.transfer.options import HALF, SKIP
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import Answer, ImportedRow

SOURCE = ""
LICENCE = ""
FIELDS = ("prompt", "chosen", "rejected", "weight", "vote")
TITLE = "TRL preference, explicit prompt"
ABOUT = "For TRL's DPOTrainer and most others: prompt, chosen, rejected."
TAKES = ("layout", "votes", "ties", "corrections", "extras")
TIES = (SKIP, HALF)


def parse(record: Mapping[str, Any]) -> ImportedRow:
    checks.refuse(check(record))
    messages = trl.asked(record["prompt"])
    answers = [trl.answered(record["prompt"], record[name]) for name in ("chosen", "rejected")]
    return ImportedRow(
        messages=tuple(messages),
        answers=tuple(Answer(text, "trl") for text in answers),
        preference=1.0,
        key=trl.key(record),
    )


def rows(item: Item, export: Export) -> Iterator[dict[str, Any]]:
    written = trl.Written(item, export)
    for pair in judgements.pairs(item.ballots, item.texts, export.options, export.left):
        if written.fits(pair.chosen, pair.rejected):
            yield {
                "prompt": written.prompt,
                "chosen": written.answer(pair.chosen),
                "rejected": written.answer(pair.rejected),
                **written.extras(pair.weight, pair.vote),
            }


def check(record: Mapping[str, Any]) -> Iterator[Problem]:
    yield from trl.check_extras(record)
    yield from trl.check_prompted(record, ("chosen", "rejected"))
    if "chosen" in record and record["chosen"] == record.get("rejected"):
        yield Problem("rejected", "is the same as 'chosen'")
