"""Two answers on one scale, from A to B. Where a campaign also asks how good the best answer is,
each step of the scale is split in three, so that one click or tap says both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from plumbline.collect import asking
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot

STRENGTHS = {1: "slightly better", 2: "better", 3: "much better"}
TIE, ALL_BAD = "tie", "bad"
NEEDED = "Choose A, B, tie or both bad first."


def choices() -> list[tuple[str, str]]:
    """The scale, from A to B, then both bad."""
    a = [(f"A{strength}", f"A {STRENGTHS[strength]}") for strength in (3, 2, 1)]
    b = [(f"B{strength}", f"B {STRENGTHS[strength]}") for strength in (1, 2, 3)]
    return [*a, (TIE, "Tie"), *b, (ALL_BAD, "Both bad")]


def read(choice: str, shown: list[int]) -> dict[str, Any]:
    """A choice of the scale as fields of a verdict on slots."""
    if choice == ALL_BAD:
        return {"outcome": Ballot.Outcome.ALL_BAD}
    if choice == TIE:
        return {"outcome": Ballot.Outcome.RANKED, "ranking": [sorted(shown)]}
    best = "AB".index(choice[0])
    return {
        "outcome": Ballot.Outcome.RANKED,
        "ranking": [[shown[best]], [shown[1 - best]]],
        "strength": int(choice[1]),
    }


def write(ballot: Ballot) -> str:
    """The choice that `read` would turn into this ballot; "" for one that is not a vote."""
    if ballot.outcome == Ballot.Outcome.ALL_BAD:
        return ALL_BAD
    if ballot.outcome != Ballot.Outcome.RANKED:
        return ""
    if len(ballot.ranking) == 1:
        return TIE
    return f"{'AB'[ballot.shown.index(ballot.ranking[0][0])]}{ballot.strength or 2}"


class Pair(Part):
    name = "pair"
    in_bar = True

    def __init__(self, ballot: Ballot, *, marked: bool = False) -> None:
        super().__init__(ballot)
        self.marked = marked

    def fields(self) -> dict[str, forms.Field]:
        needed = "Say which answer is better."
        if self.marked:
            needed = "Say which answer is better, and how good the best one is."
        values = _values(self.marked)
        return {"choice": forms.ChoiceField(choices=values, error_messages={"required": needed})}

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        choice, _, mark = cleaned["choice"].partition(".")
        said = read(choice, self.shown)
        return said | {"mark": int(mark)} if mark else said

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        choice = write(ballot)
        if self.marked and choice and choice != ALL_BAD:
            choice = f"{choice}.{ballot.mark}" if ballot.mark else ""
        return {"choice": choice} if choice else {}

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"scale": _scale(self.marked, given.get("choice", ""))}


@lru_cache(maxsize=128)
def _scale(marked: bool, chosen: str) -> SafeString:
    """It is on nearly every ballot and depends on these alone, so it is rendered once for each."""
    context = {"marked": marked, "steps": _steps(marked, chosen)}
    return render_to_string("collect/kinds/scale.html", context)


@lru_cache(maxsize=2)
def _values(marked: bool) -> list[tuple[str, str]]:
    """What may be sent."""
    return [(value, "") for step in _steps(marked, "") for value in step["values"]]


def _steps(marked: bool, chosen: str) -> list[dict[str, Any]]:
    steps = []
    for value, label in choices():
        step: dict[str, Any] = {"value": value, "label": label, "values": [value], "cells": []}
        step["short"] = label.removesuffix(" better")  # beside it the word is for wide screens
        if marked and value != ALL_BAD:
            step["values"] = [f"{value}.{mark}" for mark in asking.MARKS]
            step["cells"] = [
                {"value": cell, "word": word, "chosen": cell == chosen, "mark": mark}
                for cell, (mark, word) in zip(step["values"], asking.MARKS.items(), strict=True)
            ]
        step["chosen"] = value == chosen
        steps.append(step)
    return steps
