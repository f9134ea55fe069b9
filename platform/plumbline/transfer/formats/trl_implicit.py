"""TRL's preference type with an implicit prompt: what RewardTrainer is recommended to be given.

`chosen` and `rejected` are whole conversations that share all but the last answer: lists of
messages, or texts with HH-RLHF's marks, cut at the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plumbline.transfer import checks, judgements, transcript, trl
from plumbline.transfer.checks import Problem
from plumbline.transfer.formats import hh_rlhf
from plumbline.transfer.options import HALF, SKIP
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import Answer, ImportedRow

SOURCE = ""
LICENCE = ""
FIELDS = ("chosen", "rejected", "weight", "vote")
TITLE = "TRL preference, implicit prompt"
ABOUT = "For TRL's RewardTrainer: chosen and rejected, the whole conversation in each."
TAKES = ("layout", "votes", "ties", "corrections", "extras")
TIES = (SKIP, HALF)
SIDES = ("chosen", "rejected")


def parse(record: Mapping[str, Any]) -> ImportedRow:
    checks.refuse(check(record))
    if isinstance(record["chosen"], str):
        messages, answers = transcript.read_pair(record["chosen"], record["rejected"])
    else:
        messages = trl.asked(record["chosen"][:-1])
        answers = [record[name][-1]["content"] for name in SIDES]
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
                "chosen": written.prompt + written.answer(pair.chosen),
                "rejected": written.prompt + written.answer(pair.rejected),
                **written.extras(pair.weight, pair.vote),
            }


def check(record: Mapping[str, Any]) -> Iterator[Problem]:
    yield from trl.check_extras(record)
    if "prompt" in record:
        yield Problem("prompt", "the prompt is implicit here; trl_preference has one")
    if isinstance(record.get("chosen"), str):
        yield from hh_rlhf.pair(record)
        return
    found = [p for name in SIDES for p in checks.messages(record, name, last="assistant")]
    yield from found
    if found:
        return
    if len(record["chosen"]) < 2 or record["chosen"][-2]["role"] != "user":
        yield Problem("chosen", "the user must ask before the last answer")
    elif [trl.plain(one) for one in record["chosen"][:-1]] != [
        trl.plain(one) for one in record["rejected"][:-1]
    ]:
        yield Problem("rejected", "must be the same conversation as 'chosen' up to the last answer")
    elif record["chosen"] == record["rejected"]:
        yield Problem("rejected", "is the same as 'chosen'")
