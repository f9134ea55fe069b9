"""The demo's prompt set: every way to ask about every fact, split into training and held-out.

The split is by wording: a held-out question never occurs in training, but what it asks about does,
so a policy can show there what it learned.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from align.demo.facts import Kind, Topic, kinds

Split = Literal["train", "heldout"]

ABOUT = (
    "Tell me about {x}.",
    "What should I know about {x}?",
    "Describe {x}.",
    "Give me some facts about {x}.",
    "I want to learn about {x}.",
    "Can you tell me something about {x}?",
)


@dataclass(frozen=True)
class Question:
    """A prompt and what it asks: an attribute's index, or None for "anything about it"."""

    text: str
    kind: Kind
    topic: Topic
    asked: int | None
    split: Split


@cache
def questions() -> tuple[Question, ...]:
    """All 1,152 questions in an order that mixes topics, so that any first N are a fair sample."""
    everything = [question for kind in kinds() for question in _of_kind(kind)]
    random.Random("prompts").shuffle(everything)
    return tuple(everything)


def texts(split: Split) -> list[str]:
    """The prompts of one side: 912 for training, 240 held out."""
    return [question.text for question in questions() if question.split == split]


def find(text: str) -> Question | None:
    """The question with these words, whatever their case and closing punctuation."""
    return _by_words().get(_words(text))


@cache
def _by_words() -> dict[str, Question]:
    return {_words(question.text): question for question in questions()}


def _words(text: str) -> str:
    return text.strip().rstrip("?.!").lower()


def _of_kind(kind: Kind) -> Iterator[Question]:
    asks: list[tuple[int | None, tuple[str, ...]]] = [(None, ABOUT)]
    asks += [(k, attribute.questions) for k, attribute in enumerate(kind.attributes)]
    for row, topic in enumerate(kind.topics):
        for asked, wordings in asks:
            held = _heldout(row, asked, len(wordings))
            for i, wording in enumerate(wordings):
                text = wording.format(x=topic.called)
                yield Question(text, kind, topic, asked, "heldout" if i in held else "train")


def _heldout(row: int, asked: int | None, count: int) -> set[int]:
    """One wording of each fact and two of the open question, another one for each topic."""
    if asked is None:
        return {row % count, (row + 3) % count}
    return {(row + asked) % count}
