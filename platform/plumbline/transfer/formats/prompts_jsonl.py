"""Prompts without answers: {"prompt": "..."} or {"messages": [...]}, and "split" if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.jobs import Message
from plumbline.transfer.rows import ImportedRow, text_field, user

SOURCE = ""
LICENCE = ""
TITLE = "Prompts"
FIELDS = ("prompt", "messages", "split")


def parse(record: Mapping[str, Any]) -> ImportedRow:
    if ("prompt" in record) == ("messages" in record):
        raise ValueError("give either 'prompt' or 'messages'")
    split = record.get("split")
    if split not in (None, "train", "heldout"):
        raise ValueError(f"'split' must be train or heldout, not {split!r}")
    if "prompt" in record:
        return ImportedRow(messages=user(text_field(record, "prompt")), split=split)
    messages = record["messages"]
    if not isinstance(messages, list):
        raise ValueError("'messages' must be a list")
    return ImportedRow(messages=tuple(_message(one) for one in messages), split=split)


def _message(one: Any) -> Message:
    if not isinstance(one, Mapping):
        raise ValueError("each message must be an object with role and content")
    role, content = text_field(one, "role"), text_field(one, "content")
    return {"role": role, "content": content}  # type: ignore[typeddict-item]
