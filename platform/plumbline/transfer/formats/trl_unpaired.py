"""TRL's unpaired preference type, for KTOTrainer: `prompt`, `completion` and a `label`.

The label is an absolute judgement: a mark, or "all bad". By choice what a vote says of the order
counts as well, where it holds no mark: the best is true and the worst is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plumbline.transfer import checks, judgements, trl
from plumbline.transfer.checks import Problem, kind
from plumbline.transfer.options import BOTH, SKIP
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import Answer, ImportedRow, Vote

SOURCE = ""
LICENCE = ""
FIELDS = ("prompt", "completion", "label", "vote")
TITLE = "TRL unpaired"
ABOUT = "For TRL's KTOTrainer: prompt, completion, and whether it is good."
TAKES = ("layout", "votes", "ties", "pairs", "extras")
TIES = (SKIP, BOTH)


def parse(record: Mapping[str, Any]) -> ImportedRow:
    checks.refuse(check(record))
    text = trl.answered(record["prompt"], record["completion"])
    good = Vote("ranked", [[0]], mark=judgements.GOOD)
    return ImportedRow(
        messages=tuple(trl.asked(record["prompt"])),
        answers=(Answer(text, "trl"),),
        vote=good if record["label"] else Vote("all_bad"),
        key=trl.key(record),
    )


def rows(item: Item, export: Export) -> Iterator[dict[str, Any]]:
    texts, written = item.texts, trl.Written(item, export)
    for one in judgements.singles(item.ballots, sorted(texts), export.options, export.left):
        if written.fits(texts[one.slot]):
            yield {
                "prompt": written.prompt,
                "completion": written.answer(texts[one.slot]),
                "label": one.good,
                **written.extras(None, one.vote),
            }


def check(record: Mapping[str, Any]) -> Iterator[Problem]:
    yield from trl.check_extras(record)
    yield from trl.check_prompted(record, ("completion",))
    if "label" not in record:
        yield Problem("label", "is missing")
    elif not isinstance(record["label"], bool):
        yield Problem("label", f"must be true or false, not {kind(record['label'])}")
