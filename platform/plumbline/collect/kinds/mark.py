"""How good the best answer is, beside a ranking of three or more. A pair's scale asks it itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect import asking
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot


class Mark(Part):
    name = "mark"
    in_bar = True

    def fields(self) -> dict[str, forms.Field]:
        marks = [(str(mark), word) for mark, word in asking.MARKS.items()]
        return {"mark": forms.ChoiceField(choices=marks, required=False)}

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        missing = not cleaned.get("mark") and not cleaned.get("all_bad")
        return "Say how good the best answer is." if missing else ""

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        said = cleaned["mark"] and not cleaned.get("all_bad")
        return {"mark": int(cleaned["mark"])} if said else {}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        return {"mark": str(ballot.mark)} if ballot.mark else {}

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = str(given.get("mark", ""))
        return {"marks": [(mark, word, str(mark) == chosen) for mark, word in asking.MARKS.items()]}
