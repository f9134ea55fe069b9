"""What an importer hands over: one conversation, the answers to it, and who was preferred.

Every format is turned into these rows and checked here, so that what reaches the database is text
that every database can hold (no NUL, no lone surrogates), of a bounded size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from align.jobs import Message
from plumbline.collect.prompts import digest as digest  # a row's prompt is known by it

LONGEST_TEXT = 200_000  # characters of one message or answer
MOST_MESSAGES = 200
MOST_ANSWERS = 9  # what a comparison may hold
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Answer:
    """Answers to a prompt that are equal in text, origin and key are one."""

    text: str
    origin: str  # who wrote it: a model's name, or the data set's when it does not say
    key: str = ""  # the source's own name for it
    finish_reason: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """The campaign a vote was cast in."""

    name: str = ""
    purpose: str = "train"
    asks: list[str] = field(default_factory=lambda: ["compare"])
    criteria: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Vote:
    """What one person said of a row's answers: the fields of a ballot, slots being the answers'
    places in the row. Votes on the same `comparison` are on one; "" is the row's own. Times are in
    ISO format; None is the time of the import."""

    outcome: str
    ranking: list[list[int]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)  # []: in the row's order
    strength: int | None = None
    probability: float | None = None
    mark: int | None = None
    ratings: dict[str, dict[str, int]] = field(default_factory=dict)
    corrections: dict[str, str] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    reason: str = ""
    comment: str = ""
    active_ms: int | None = None
    settings_version: int = 1
    claimed_at: str | None = None
    cast_at: str | None = None
    annotator: str = ""
    revision: int = 1
    revises: bool = False  # the revision before this one
    standing: bool = True
    comparison: str = ""
    kind: str = "ordinary"
    strategy: str = "imported"
    p_select: float = 1.0
    why: dict[str, Any] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)


@dataclass(frozen=True)
class ImportedRow:
    """A prompt with 0..9 answers, and one vote on them if there is any.

    `preference` is P(first answer is better), for rows with two answers: 1, 0 or 0.5 from a voter
    who chose, anything between when the source is `graded`. A source that knows more gives a `vote`
    instead. `key` is the source's own name for the row; rows equal in everything are one.
    """

    messages: tuple[Message, ...]
    answers: tuple[Answer, ...] = ()
    preference: float | None = None
    graded: bool = False
    key: str = ""
    split: Literal["train", "heldout"] | None = None
    vote: Vote | None = None

    def __post_init__(self) -> None:
        check_messages(self.messages)
        if len(self.answers) > MOST_ANSWERS:
            raise ValueError(f"{len(self.answers)} answers; at most {MOST_ANSWERS} can be compared")
        for answer in self.answers:
            check_text(answer.text, "an answer")
            check_text(answer.origin, "an answer's origin")
        check_text(self.key, "the row's key")
        if self.preference is not None:
            if len(self.answers) != 2:
                raise ValueError(f"a preference needs two answers, not {len(self.answers)}")
            if not 0 <= self.preference <= 1:
                raise ValueError(f"a preference is a probability, not {self.preference}")

    @property
    def claim(self) -> str | None:
        """What no two different rows of a file may say: a person's n-th word on a comparison."""
        vote = self.vote
        if vote is None or not vote.comparison:
            return None
        return json.dumps([vote.comparison, vote.annotator, vote.revision])


def user(text: str) -> tuple[Message, ...]:
    """A conversation that is one question."""
    return ({"role": "user", "content": text},)


def text_field(record: Mapping[str, Any], name: str) -> str:
    """A field that must be there as a string. Raises ValueError naming it."""
    if name not in record:
        raise ValueError(f"{name!r} is missing")
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"{name!r} must be a string, not {type(value).__name__}")
    return value


def check_messages(messages: Sequence[Message]) -> None:
    """Roles, contents, and someone asking last. Raises ValueError."""
    if not messages:
        raise ValueError("there are no messages")
    if len(messages) > MOST_MESSAGES:
        raise ValueError(f"{len(messages)} messages; at most {MOST_MESSAGES} are taken")
    for number, message in enumerate(messages, 1):
        if message["role"] not in get_args(Role):
            raise ValueError(f"message {number} has the role {message['role']!r}")
        check_text(message["content"], f"message {number}")
        if not message["content"].strip():
            raise ValueError(f"message {number} is empty")
    if messages[-1]["role"] != "user":
        raise ValueError("the last message must be the user's; answers are given apart from it")


def check_text(text: str, what: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{what} has {len(text)} characters; at most {LONGEST_TEXT} are taken")
    if "\0" in text:
        raise ValueError(f"{what} holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds half of a surrogate pair") from None
