"""OpenAI's preference fine-tuning file: `input`, `preferred_output`, `non_preferred_output`.

Exactly two outputs of one assistant message each, to the same conversation. There is no place for a
weight. OpenAI takes a file from 10 lines on, Fireworks one from 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plumbline.transfer import checks, judgements
from plumbline.transfer.checks import Problem, kind
from plumbline.transfer.options import SKIP
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import Answer, ImportedRow

SOURCE = ""
LICENCE = ""
FIELDS = ("input", "preferred_output", "non_preferred_output")
TITLE = "OpenAI preference"
ABOUT = "For preference fine-tuning at OpenAI, Azure, Together or Fireworks."
TAKES = ("votes", "ties", "corrections")
TIES = (SKIP,)
OUTPUTS = ("preferred_output", "non_preferred_output")


def parse(record: Mapping[str, Any]) -> ImportedRow:
    checks.refuse(check(record))
    return ImportedRow(
        messages=tuple(
            {"role": one["role"], "content": one["content"]} for one in record["input"]["messages"]
        ),
        answers=tuple(Answer(record[name][0]["content"], "openai") for name in OUTPUTS),
        preference=1.0,
    )


def rows(item: Item, export: Export) -> Iterator[dict[str, Any]]:
    for pair in judgements.pairs(item.ballots, item.texts, export.options, export.left):
        yield {
            "input": {"messages": item.messages, "tools": [], "parallel_tool_calls": True},
            "preferred_output": [{"role": "assistant", "content": pair.chosen}],
            "non_preferred_output": [{"role": "assistant", "content": pair.rejected}],
        }


def check(record: Mapping[str, Any]) -> Iterator[Problem]:
    yield from checks.exactly(record, ("input", *OUTPUTS))
    asked = record.get("input")
    if isinstance(asked, Mapping):
        yield from checks.messages(asked, "messages", "input")
        if asked.get("tools"):
            yield Problem("input.tools", "calls of tools are not taken")
    else:
        yield Problem(
            "input", f"must be an object, not {kind(asked)}" if "input" in record else "is missing"
        )
    found = [problem for name in OUTPUTS for problem in checks.answer(record, name)]
    yield from found
    if not found:
        for name in OUTPUTS:
            if not record[name][0]["content"].strip():
                yield Problem(f"{name}[0].content", "is empty")
        if record[OUTPUTS[0]][0]["content"] == record[OUTPUTS[1]][0]["content"]:
            yield Problem("non_preferred_output", "is the same as 'preferred_output'")
