"""What every kind of question offers the ballot form."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any, ClassVar

from django import forms

from plumbline.collect import live
from plumbline.collect.models import Ballot, Campaign


class Part:
    """One kind of question on one ballot. `n` counts answers in the order they are shown, from 0;
    `given` is what was sent, drafted or said before, by name of the fields."""

    name: ClassVar[str]
    in_pane: ClassVar[bool] = False
    in_bar: ClassVar[bool] = False

    def __init__(self, ballot: Ballot) -> None:
        self.ballot = ballot
        self.shown: list[int] = ballot.shown
        self.letters = ascii_uppercase[: len(self.shown)]

    @property
    def campaign(self) -> Campaign:
        return self.ballot.comparison.campaign

    def template(self, place: str) -> str:
        return f"collect/kinds/{self.name}.html#{place}"

    def fields(self) -> dict[str, forms.Field]:
        raise NotImplementedError

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        """Why what was sent cannot be taken, for the person who sent it; "" when it can."""
        return ""

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a verdict, from a valid form."""
        raise NotImplementedError

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        """The fields that would say what an earlier ballot in the same order says."""
        raise NotImplementedError

    def at_pane(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def texts(self) -> dict[int, str]:
        """The answers' raw texts by slot; of a live comparison those that have ended."""
        if live.unfinished(self.ballot.comparison):
            return live.whole(self.ballot.comparison)
        return {one.slot: one.completion.text for one in self.ballot.comparison.replies}
