"""Three to six answers in order. The numbers are the truth of the form; dragging, keys and stacking
only write them, so nothing can be stored that was not shown. Equal places tie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot


def read(places: list[int], shown: list[int]) -> list[list[int]]:
    """Places of the answers as shown (1 is best, equal places tie), as tie groups of slots."""
    return [
        sorted(slot for slot, given in zip(shown, places, strict=True) if given == place)
        for place in sorted(set(places))
    ]


class Rank(Part):
    name = "rank"
    in_pane = in_bar = True

    def fields(self) -> dict[str, forms.Field]:
        most = len(self.shown)
        places: dict[str, forms.Field] = {
            f"place_{n}": forms.IntegerField(required=False, min_value=1, max_value=most)
            for n in range(most)
        }
        return {"all_bad": forms.BooleanField(required=False), **places}

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        missing = not cleaned.get("all_bad") and None in self._places(cleaned)
        return "Give each answer a place; equal places tie." if missing else ""

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        if cleaned["all_bad"]:
            return {"outcome": Ballot.Outcome.ALL_BAD}
        places = [place for place in self._places(cleaned) if place is not None]
        return {"outcome": Ballot.Outcome.RANKED, "ranking": read(places, self.shown)}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        if ballot.outcome == Ballot.Outcome.ALL_BAD:
            return {"all_bad": "on"}
        place = {slot: at for at, group in enumerate(ballot.ranking, 1) for slot in group}
        return {f"place_{n}": place[slot] for n, slot in enumerate(self.shown) if slot in place}

    def at_pane(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = str(given.get(f"place_{n}") or "")
        places = [str(place + 1) for place in range(len(self.shown))]
        return {
            "name": f"place_{n}",
            "letter": self.letters[n],
            "places": [(place, place == chosen) for place in places],
        }

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"letters": self.letters, "all_bad": bool(given.get("all_bad"))}

    def _places(self, cleaned: Mapping[str, Any]) -> list[int | None]:
        return [cleaned.get(f"place_{n}") for n in range(len(self.shown))]
