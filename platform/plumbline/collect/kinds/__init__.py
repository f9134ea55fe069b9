"""Kinds of question, a file each: what the page shows, what may be sent, what it says of the slots.

A campaign asks for several at once; the ballot form is made of their parts. A part knows the order
the answers are shown in and nothing of who wrote them. Its template, of the same name under
`collect/kinds/`, has a partial for the foot of each answer (`pane`) and one for the bar (`bar`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from plumbline.collect import asking
from plumbline.collect.kinds import (
    best_worst,
    correct,
    critique,
    mark,
    pair,
    rank,
    rate,
    spans,
)
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot

MOST_RANKED = 6  # above it people say the best and the worst only

KINDS: dict[str, Callable[[Ballot], Part]] = {
    asking.CORRECT: correct.Correct,
    asking.SPANS: spans.Spans,
    asking.RATE: rate.Rate,
    asking.CRITIQUE: critique.Critique,
}


def parts(ballot: Ballot) -> list[Part]:
    """The parts of a ballot's form, in the order they are read. A note is always possible."""
    return list(_parts(ballot, set(ballot.comparison.campaign.asks)))


def fill(ballot: Ballot) -> dict[str, Any]:
    """The form that would say what a ballot says, by name of its fields."""
    filled: dict[str, Any] = {}
    for part in parts(ballot):
        filled |= part.fill(ballot)
    return filled


def at_panes(chosen: list[Part], count: int, given: Mapping[str, Any]) -> list[list[Any]]:
    """What stands in each answer's pane: a template and its data, part by part."""
    inside = [part for part in chosen if part.in_pane]
    return [
        [(part.template("pane"), part.at_pane(n, given)) for part in inside] for n in range(count)
    ]


def at_bar(chosen: list[Part], given: Mapping[str, Any]) -> list[Any]:
    return [(part.template("bar"), part.at_bar(given)) for part in chosen if part.in_bar]


def _parts(ballot: Ballot, asks: set[str]) -> Iterator[Part]:
    several = len(ballot.shown) > 1
    marked = asking.MARK in asks
    if asking.COMPARE in asks and several:
        if len(ballot.shown) == 2:
            yield pair.Pair(ballot, marked=marked)
            marked = False  # the scale asks for both in one gesture
        elif len(ballot.shown) <= MOST_RANKED:
            yield rank.Rank(ballot)
        else:
            yield best_worst.BestWorst(ballot)
    if marked:
        yield mark.Mark(ballot)
    for ask, kind in KINDS.items():
        if ask in asks or ask == asking.CRITIQUE:
            yield kind(ballot)
