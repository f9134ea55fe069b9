"""How answers changed in what a reward may be won by without being better: length and form.

A candidate's answers are held against another policy's to the same prompts. Intervals are the
bootstrap's over prompts. A mark is something that an answer has or has not; those in BROKEN are
faults whatever people like, those in DRESS may be to somebody's taste.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from align.measure.confounds import STYLES
from align.measure.intervals import Interval, over_groups

PHRASE = 3  # words of which a repeated phrase is made
REPEATS = 0.3  # share of an answer's phrases that it said before: from here it repeats itself
SHORT = 2 * PHRASE  # words; a shorter answer cannot repeat itself


@dataclass(frozen=True)
class Answer:
    """`tokens` as sampled, the end of turn included; `cut`: it ran into the limit."""

    text: str
    tokens: int
    cut: bool


@dataclass(frozen=True)
class FaceOff:
    """Both answers to one prompt, and the share of the vote that the first one got, if known."""

    prompt: str
    mine: Answer
    theirs: Answer
    share: float | None = None

    @property
    def longer(self) -> float:
        return float(self.mine.tokens - self.theirs.tokens)


@dataclass(frozen=True)
class Change:
    """How often both sides' answers have a mark, and the difference with its interval."""

    mark: str
    broken: bool
    mine: float
    theirs: float
    change: Interval


def repeated(text: str) -> float:
    """The share of an answer's phrases of three words that it has said before."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < SHORT:
        return 0.0
    phrases = [tuple(words[at : at + PHRASE]) for at in range(len(words) - PHRASE + 1)]
    return 1 - len(set(phrases)) / len(phrases)


def empty(text: str) -> bool:
    """Nothing, or nothing but marks, or a single word."""
    return len(re.findall(r"\w+", text)) < 2


BROKEN: Mapping[str, Callable[[Answer], bool]] = {
    "cut off": lambda one: one.cut,
    "repeating themselves": lambda one: repeated(one.text) >= REPEATS,
    "empty or a single word": lambda one: empty(one.text),
}
DRESSED = ("list items", "headings", "bold", "exclamation marks")


def _has(name: str) -> Callable[[Answer], bool]:
    return lambda one: STYLES[name].search(one.text) is not None


DRESS: Mapping[str, Callable[[Answer], bool]] = {f"with {name}": _has(name) for name in DRESSED}


def length_ratio(found: Sequence[FaceOff]) -> Interval | None:
    """Mean tokens of ours over theirs; None where there are no answers, or theirs have none."""

    def ratio(rows: Sequence[Sequence[FaceOff]]) -> float | None:
        theirs = sum(one.theirs.tokens for row in rows for one in row)
        return sum(one.mine.tokens for row in rows for one in row) / theirs if theirs else None

    return over_groups(_by_prompt(found), ratio)


def changes(found: Sequence[FaceOff]) -> list[Change]:
    """Every mark that any answer has, faults first."""
    made = []
    for broken, marks in ((True, BROKEN), (False, DRESS)):
        for name, has in marks.items():
            pairs = {one.prompt: [(has(one.mine), has(one.theirs))] for one in found}
            interval = over_groups(pairs, _gap)
            if interval is None:
                continue
            sides = [pair for row in pairs.values() for pair in row]
            mine, theirs = fmean(a for a, _ in sides), fmean(b for _, b in sides)
            if mine or theirs:
                made.append(Change(name, broken, mine, theirs, interval))
    return made


def _gap(rows: Sequence[Sequence[tuple[bool, bool]]]) -> float:
    return fmean(float(a) - float(b) for row in rows for a, b in row)


def difference(pairs: Mapping[str, tuple[float, float]]) -> Interval | None:
    """Mean of first less second over prompts, with its interval: two judges of the same answers."""

    def gap(rows: Sequence[Sequence[tuple[float, float]]]) -> float:
        return fmean(a - b for row in rows for a, b in row)

    return over_groups({prompt: [pair] for prompt, pair in pairs.items()}, gap)


def _by_prompt(found: Sequence[FaceOff]) -> dict[str, list[FaceOff]]:
    groups: dict[str, list[FaceOff]] = {}
    for one in found:
        groups.setdefault(one.prompt, []).append(one)
    return groups
