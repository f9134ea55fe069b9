"""HH-RLHF (arXiv:2204.05862): `chosen` and `rejected` transcripts that differ in their last answer.

The prompt is their common prefix cut at the *last* assistant mark. Turns of one speaker that
follow each other, which the data has, are joined.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from align.jobs import Message
from plumbline.transfer.rows import Answer, ImportedRow, text_field

SOURCE = "https://github.com/anthropics/hh-rlhf"
LICENCE = "MIT"

ASSISTANT = "\n\nAssistant:"
TURN = re.compile(r"\n\n(Human|Assistant):")


def parse(record: Mapping[str, Any]) -> ImportedRow:
    chosen, rejected = text_field(record, "chosen"), text_field(record, "rejected")
    cut = os.path.commonprefix([chosen, rejected]).rfind(ASSISTANT)
    if cut < 0:
        raise ValueError("the two transcripts have no assistant's turn in common")
    messages = _turns(chosen[:cut])
    opening = ""
    while messages and messages[-1]["role"] == "assistant":
        opening = messages.pop()["content"] + "\n\n" + opening
    answers = [opening + _answer(text[cut + len(ASSISTANT) :]) for text in (chosen, rejected)]
    return ImportedRow(
        messages=tuple(messages),
        answers=tuple(Answer(text, "hh-rlhf") for text in answers),
        preference=1.0,
    )


def _turns(transcript: str) -> list[Message]:
    """The messages of a transcript, neighbours of one role joined."""
    before, *parts = TURN.split(transcript)
    if before.strip():
        raise ValueError(r"a transcript must begin with '\n\nHuman:'")
    messages: list[Message] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n\n" + said.strip()
        else:
            messages.append({"role": role, "content": said.strip()})  # type: ignore[typeddict-item]
    return messages


def _answer(text: str) -> str:
    if "\n\nHuman:" in text:
        raise ValueError("the transcripts part before their last answer")
    return "\n\n".join(part.strip() for part in text.split(ASSISTANT)).strip()
