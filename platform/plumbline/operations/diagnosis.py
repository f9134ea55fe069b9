"""What `manage.py doctor` says of one thing on this machine, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "look", "wrong"]
WORDS: dict[Level, str] = {"ok": "fine", "look": "look at this", "wrong": "wrong"}


@dataclass(frozen=True)
class Diagnosis:
    """`level`: "look" is what works and should not stay so."""

    level: Level
    sentence: str
    remedy: str = ""

    @property
    def words(self) -> str:
        return WORDS[self.level]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def ok(sentence: str) -> Diagnosis:
    return Diagnosis("ok", sentence)


def look(sentence: str, remedy: str) -> Diagnosis:
    return Diagnosis("look", sentence, remedy)


def wrong(sentence: str, remedy: str) -> Diagnosis:
    return Diagnosis("wrong", sentence, remedy)
