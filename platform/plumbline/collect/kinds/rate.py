"""Every answer rated by each of the campaign's criteria, on the criterion's own scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect import asking
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot


class Rate(Part):
    name = "rate"
    in_pane = True

    def __init__(self, ballot: Ballot) -> None:
        super().__init__(ballot)
        self.criteria = asking.criteria(self.campaign.criteria)

    def fields(self) -> dict[str, forms.Field]:
        return {
            field: forms.IntegerField(required=False, min_value=one.least, max_value=one.most)
            for field, _, one in self._all()
        }

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        if self._all_bad(cleaned):
            return ""
        missing = [(n, one) for field, n, one in self._all() if cleaned.get(field) is None]
        if not missing:
            return ""
        n, one = missing[0]
        if len(self.shown) == 1:
            return f"Rate the answer by {one.name}."
        return f"Rate answer {self.letters[n]} by {one.name}."

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        if self._all_bad(cleaned):
            return {}
        ratings: dict[str, dict[str, int]] = {}
        for field, n, one in self._all():
            ratings.setdefault(str(self.shown[n]), {})[one.name] = cleaned[field]
        return {"ratings": ratings}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        given = {
            field: ballot.ratings.get(str(self.shown[n]), {}).get(one.name)
            for field, n, one in self._all()
        }
        return {field: value for field, value in given.items() if value is not None}

    def at_pane(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        rows = []
        for field, of, one in self._all():
            if of == n:
                chosen = str(given.get(field, ""))
                scale = range(one.least, one.most + 1)
                steps = [(str(value), str(value) == chosen) for value in scale]
                rows.append({"name": field, "criterion": one, "steps": steps})
        return {"letter": self.letters[n], "rows": rows}

    def _all(self) -> list[tuple[str, int, asking.Criterion]]:
        return [
            (f"rate_{n}_{one.name}", n, one)
            for n in range(len(self.shown))
            for one in self.criteria
        ]

    def _all_bad(self, cleaned: Mapping[str, Any]) -> bool:
        return bool(cleaned.get("all_bad")) or cleaned.get("choice") == "bad"
