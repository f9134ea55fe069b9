r"""HH-RLHF (arXiv:2204.05862): `chosen` and `rejected` transcripts, different in the last answer.

The prompt is their common prefix cut at the *last* "\n\nAssistant:"; an earlier one is a turn of
the conversation. Turns of one speaker that follow each other, which the data has, are joined. There
is no place for a weight, so a ranking's pairs are rows like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plumbline.transfer import checks, judgements, transcript
from plumbline.transfer.checks import Problem
from plumbline.transfer.options import SKIP
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import Answer, ImportedRow, text_field

SOURCE = "https://github.com/anthropics/hh-rlhf"
LICENCE = "MIT"
FIELDS = ("chosen", "rejected")
TITLE = "HH-RLHF"
ABOUT = "Two whole conversations as text, chosen and rejected, that differ in the last answer."
TAKES = ("votes", "ties", "corrections")
TIES = (SKIP,)


def parse(record: Mapping[str, Any]) -> ImportedRow:
    chosen, rejected = text_field(record, "chosen"), text_field(record, "rejected")
    messages, answers = transcript.read_pair(chosen, rejected)
    return ImportedRow(
        messages=tuple(messages),
        answers=tuple(Answer(text, "hh-rlhf") for text in answers),
        preference=1.0,
    )


def rows(item: Item, export: Export) -> Iterator[dict[str, Any]]:
    opening = None
    for pair in judgements.pairs(item.ballots, item.texts, export.options, export.left):
        answers = pair.chosen, pair.rejected
        if not all(transcript.fits(item.messages, one) for one in answers):
            export.left[transcript.UNFIT] += 1
            continue
        opening = opening or transcript.prompt(item.messages)
        yield {"chosen": f"{opening} {answers[0]}", "rejected": f"{opening} {answers[1]}"}


def check(record: Mapping[str, Any]) -> Iterator[Problem]:
    yield from checks.exactly(record, ("chosen", "rejected"))
    yield from pair(record)


def pair(record: Mapping[str, Any]) -> Iterator[Problem]:
    """Two transcripts that are one conversation up to the last answer."""
    found = [*checks.text(record, "chosen"), *checks.text(record, "rejected")]
    yield from found
    for name in ("chosen", "rejected"):
        if not found and not record[name].startswith(transcript.HUMAN):
            found.append(Problem(name, r"must begin with '\n\nHuman:'"))
            yield found[-1]
    if found:
        return
    try:
        messages, _ = transcript.read_pair(record["chosen"], record["rejected"])
    except ValueError as error:
        yield Problem("rejected", str(error))
        return
    if not messages:
        yield Problem("chosen", "nobody asks before the last answer")
    if record["chosen"] == record["rejected"]:
        yield Problem("rejected", "is the same as 'chosen'")
