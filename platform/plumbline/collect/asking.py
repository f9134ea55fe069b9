"""What a campaign may ask of people, as data: kinds of question, criteria, marks, spans.

A campaign's `asks` names any of these at once. This module says what each may hold and refuses in a
sentence what does not fit; forms, the queue, imports and exports all read it from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COMPARE, MARK, RATE, CORRECT, CRITIQUE, SPANS = (
    "compare",
    "mark",
    "rate",
    "correct",
    "critique",
    "spans",
)
ASKS = {
    COMPARE: "Which answer is better: a scale for two, a ranking for three to nine",
    MARK: "How good the best answer is: good, ok or bad",
    RATE: "Ratings of each answer by the campaign's own criteria",
    CORRECT: "A corrected version of an answer",
    CRITIQUE: "A critique in words",
    SPANS: "Marks on the places of an answer that are wrong or good",
}
ALONE = {COMPARE, RATE, CORRECT}  # a campaign asks for one of these at least
MARKS = {3: "good", 2: "ok", 1: "bad"}
SPAN_LABELS = {
    "wrong": "Wrong",
    "harmful": "Harmful",
    "unclear": "Unclear",
    "redundant": "Redundant",
    "good": "Good",
}
MOST_CRITERIA, MOST_SPANS = 8, 50


@dataclass(frozen=True)
class Criterion:
    """A scale from `least` to `most`, whose ends are called `low` and `high`."""

    name: str  # what votes are stored under
    question: str = ""
    least: int = 1
    most: int = 5
    low: str = ""
    high: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"A criterion is named in one word of letters, not {self.name!r}.")
        if not 0 <= self.least < self.most <= 10:
            raise ValueError(f"{self.name}: a scale goes from 0 or more up to 10 at most.")


@dataclass(frozen=True)
class Span:
    """A place in an answer's text: characters start to end (exclusive) of slot's raw text."""

    slot: int
    start: int
    end: int
    label: str
    note: str = ""


def check_asks(asks: Iterable[str], criteria: Sequence[Criterion]) -> None:
    """Raises ValueError for questions that cannot be asked together."""
    wanted = set(asks)
    if unknown := wanted - ASKS.keys():
        raise ValueError(f"There is no question called {', '.join(sorted(unknown))}.")
    if not wanted & ALONE:
        raise ValueError("Ask people to compare, to rate or to correct; the rest goes beside it.")
    if MARK in wanted and COMPARE not in wanted:
        raise ValueError("A mark is of the best answer, so there must be a comparison.")
    if (RATE in wanted) != bool(criteria):
        raise ValueError("Ratings need criteria, and criteria are for ratings.")
    names = [one.name for one in criteria]
    if len(set(names)) < len(names):
        raise ValueError("Two criteria have the same name.")
    if len(names) > MOST_CRITERIA:
        raise ValueError(f"{MOST_CRITERIA} criteria are the most that people can bear.")


def check_ratings(
    ratings: Mapping[str, Mapping[str, int]], slots: Iterable[int], criteria: Sequence[Criterion]
) -> None:
    """Every answer is rated by every criterion, within its scale. Raises ValueError."""
    wanted = {str(slot) for slot in slots}
    if ratings.keys() != wanted:
        raise ValueError("Rate every answer.")
    for given in ratings.values():
        for one in criteria:
            value = given.get(one.name)
            if value is None:
                raise ValueError(f"Rate every answer by {one.name}.")
            if not one.least <= value <= one.most:
                raise ValueError(f"{one.name} is rated from {one.least} to {one.most}.")
        if given.keys() - {one.name for one in criteria}:
            raise ValueError("There is a rating by a criterion that this campaign does not have.")


def check_spans(spans: Sequence[Span], texts: Mapping[int, str]) -> None:
    """Places that exist in the texts, by slot. Raises ValueError."""
    if len(spans) > MOST_SPANS:
        raise ValueError(f"Mark {MOST_SPANS} places at most.")
    for span in spans:
        if span.label not in SPAN_LABELS:
            raise ValueError(f"A place cannot be marked {span.label!r}.")
        if span.slot not in texts or not 0 <= span.start < span.end <= len(texts[span.slot]):
            raise ValueError("A mark lies outside of its answer.")


def criteria(rows: Iterable[Mapping[str, Any]]) -> list[Criterion]:
    """A campaign's criteria from its JSON."""
    return [Criterion(**row) for row in rows]
