r"""Conversations as one text, in the way of HH-RLHF: "\n\nHuman: ...\n\nAssistant: ...".

Such a text has no escapes. What reads back as something else, because a message holds a mark, two
neighbours have one speaker or there is a system message, is refused before it is written. White
space around a turn is not kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from align.jobs import Message

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
MARKS = {"user": HUMAN, "assistant": ASSISTANT}
UNFIT = "rows that a transcript cannot hold: a system message, a mark in a text, two turns of one"
TURN = re.compile(r"\n\n(Human|Assistant):")


def turns(transcript: str) -> list[Message]:
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


def read_pair(chosen: str, rejected: str) -> tuple[list[Message], list[str]]:
    """The prompt of two transcripts and their last answers.

    The prompt is their common prefix cut at the *last* assistant mark.
    """
    cut = os.path.commonprefix([chosen, rejected]).rfind(ASSISTANT)
    if cut < 0:
        raise ValueError("the two transcripts have no assistant's turn in common")
    messages = turns(chosen[:cut])
    opening = ""
    while messages and messages[-1]["role"] == "assistant":
        opening = messages.pop()["content"] + "\n\n" + opening
    return messages, [
        opening + _answer(text[cut + len(ASSISTANT) :]) for text in (chosen, rejected)
    ]


def is_prompt(text: str) -> bool:
    """Whether a text is a transcript that waits for the assistant."""
    return text.startswith(HUMAN) and text.endswith(ASSISTANT)


def prompt(messages: Sequence[Message]) -> str:
    """The conversation up to the mark after which the assistant speaks."""
    return "".join(f"{MARKS[one['role']]} {one['content']}" for one in messages) + ASSISTANT


def fits(messages: Sequence[Message], answer: str) -> bool:
    """Whether the conversation, with this answer, reads back as it is written."""
    if any(message["role"] not in MARKS for message in messages):
        return False
    spoken = [(message["role"], message["content"].strip()) for message in messages]
    spoken.append(("assistant", answer.strip()))
    read = turns(f"{prompt(messages)} {answer}")
    return [(message["role"], message["content"]) for message in read] == spoken


def _answer(text: str) -> str:
    if HUMAN in text:
        raise ValueError("the transcripts part before their last answer")
    return "\n\n".join(part.strip() for part in text.split(ASSISTANT)).strip()
