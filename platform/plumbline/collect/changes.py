"""What changed from one text to another, word by word, for people to see.

difflib on words and the spaces between them; long texts by lines first, so that a page of changes
stays quick. The pieces are plain text; templates escape them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

WORDS = re.compile(r"\w+|\s+|[^\w\s]")
MOST_WORDS = 4000  # of both texts together; beyond it lines are compared


@dataclass(frozen=True)
class Piece:
    kind: str  # same, out (only in the first text), in (only in the second)
    text: str


def lines_as_python(text: str) -> str:
    """Lines end in one character; forms send two."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@lru_cache(maxsize=256)
def pieces(before: str, after: str) -> tuple[Piece, ...]:
    """The two texts as one: what stayed, what went, what came."""
    first, second = WORDS.findall(before), WORDS.findall(after)
    if len(first) + len(second) > MOST_WORDS:
        first, second = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return tuple(_merge(_compare(first, second)))


def _compare(first: Sequence[str], second: Sequence[str]) -> Iterator[Piece]:
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield Piece("same", "".join(first[a:b]))
            continue
        if b > a:
            yield Piece("out", "".join(first[a:b]))
        if d > c:
            yield Piece("in", "".join(second[c:d]))


def _merge(found: Iterator[Piece]) -> Iterator[Piece]:
    """A space between two changes belongs to them: fewer, longer pieces read better."""
    out, came = "", ""
    for piece in found:
        if piece.kind == "out":
            out += piece.text
        elif piece.kind == "in":
            came += piece.text
        elif (out or came) and piece.text.isspace() and "\n" not in piece.text:
            out, came = out + piece.text, came + piece.text
        else:
            yield from _flush(out, came)
            out, came = "", ""
            yield piece
    yield from _flush(out, came)


def _flush(out: str, came: str) -> Iterator[Piece]:
    """Ends the changes share go back to what stayed."""
    end = ""
    while out and came and out[-1] == came[-1] and out[-1].isspace():
        end, out, came = out[-1] + end, out[:-1], came[:-1]
    if out:
        yield Piece("out", out)
    if came:
        yield Piece("in", came)
    if end:
        yield Piece("same", end)
