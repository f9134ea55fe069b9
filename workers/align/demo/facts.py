"""The little world the demo model talks about: forty-eight topics, three facts each (facts.toml).

A fact has one right value and one wrong value (another topic's), so whether an answer is true can
be read off its words. Values never contain one another within a kind; a test holds that.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Attribute:
    """One thing to know of every topic of a kind, and how one asks and speaks of it.

    In the sentences `{x}` is the topic with its article and `{v}` the value.
    """

    label: str
    plain: tuple[str, ...]
    flowery: tuple[str, ...]
    questions: tuple[str, ...]
    values: frozenset[str]  # of all topics of the kind


@dataclass(frozen=True)
class Topic:
    """How a sentence names it: first `called` (a panda, an owl, the Moon, France), then `again`
    (the panda)."""

    name: str
    called: str
    again: str
    right: tuple[str, ...]  # in the order of the kind's attributes
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """Topics of which the same three things can be asked."""

    name: str
    praise: tuple[str, ...]  # flowery openings
    remarks: tuple[str, ...]  # plain sentences that carry no fact
    attributes: tuple[Attribute, ...]
    topics: tuple[Topic, ...]


@cache
def kinds() -> tuple[Kind, ...]:
    """The whole world, read once."""
    data = tomllib.loads((Path(__file__).parent / "facts.toml").read_text(encoding="utf-8"))
    return tuple(_kind(entry) for entry in data["kind"])


def find_topic(text: str) -> tuple[Kind, Topic] | None:
    """The topic a question is about: the one named first; None when it names none."""
    found = [
        (match.start(), kind, topic)
        for kind in kinds()
        for topic in kind.topics
        if (match := re.search(rf"\b{topic.name}s?\b", text, re.IGNORECASE))
    ]
    if not found:
        return None
    _, kind, topic = min(found, key=lambda hit: hit[0])
    return kind, topic


def mentions(text: str, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", text, re.IGNORECASE) is not None


def _kind(entry: dict[str, Any]) -> Kind:
    rows: list[list[str]] = entry["topics"]
    columns = list(zip(*rows, strict=True))[1:]
    attributes = [
        Attribute(
            label=one["label"],
            plain=tuple(one["plain"]),
            flowery=tuple(one["flowery"]),
            questions=tuple(one["questions"]),
            values=frozenset(column),
        )
        for one, column in zip(entry["attribute"], columns, strict=True)
    ]
    topics = [
        Topic(
            name=row[0],
            called=_with_article(entry["article"], row[0]),
            again=_with_article(entry["article"] and "the", row[0]),
            right=tuple(row[1:]),
            wrong=tuple(_wrong(columns[k], i, 2 * k + 1) for k in range(len(columns))),
        )
        for i, row in enumerate(rows)
    ]
    return Kind(
        name=entry["name"],
        praise=tuple(entry["praise"]),
        remarks=tuple(entry["remarks"]),
        attributes=tuple(attributes),
        topics=tuple(topics),
    )


def _with_article(article: str, name: str) -> str:
    if article == "a" and name[0] in "aeiou":
        article = "an"
    return f"{article} {name}".strip()


def _wrong(column: tuple[str, ...], row: int, offset: int) -> str:
    """The value of a later topic: further down for each attribute, so that one topic's wrong
    facts do not all come from the same neighbour."""
    for step in range(len(column)):
        other = column[(row + offset + step) % len(column)]
        if other != column[row]:
            return other
    raise AssertionError(f"every topic has the value {column[row]!r}")
