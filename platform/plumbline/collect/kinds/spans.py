"""What is wrong where: places of an answer's raw text with a label and a note.

Places are counted in characters as Python counts them (code points); the page converts. Without
JavaScript a place is named by quoting it, and its first occurrence is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect import asking
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot

QUOTES = 3  # places that can be quoted in one form
BROKEN = "The marks could not be read. Reload the page and mark again."


class Spans(Part):
    name = "spans"
    in_pane = in_bar = True

    def fields(self) -> dict[str, forms.Field]:
        labels = list(asking.SPAN_LABELS.items())
        answers = [(str(n), letter) for n, letter in enumerate(self.letters)]
        fields: dict[str, forms.Field] = {"spans": forms.CharField(required=False)}
        for k in range(QUOTES):
            fields[f"quote_{k}"] = forms.CharField(required=False, max_length=2000)
            fields[f"quote_{k}_of"] = forms.ChoiceField(choices=answers, required=False)
            fields[f"quote_{k}_label"] = forms.ChoiceField(choices=labels, required=False)
            fields[f"quote_{k}_note"] = forms.CharField(required=False, max_length=300)
        return fields

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        try:
            asking.check_spans(self._spans(cleaned), self.texts())
        except ValueError as wrong:
            return str(wrong)
        return ""

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        return {"spans": self._spans(cleaned)}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        rows = [{**span, "n": self.shown.index(span["slot"])} for span in ballot.spans]
        for row in rows:
            del row["slot"]
        return {"spans": json.dumps(rows)} if rows else {}

    def at_pane(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"n": n, "letter": self.letters[n], "waits": self.shown[n] not in self.texts()}

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "spans": given.get("spans", ""),
            "labels": asking.SPAN_LABELS.items(),
            "answers": list(enumerate(self.letters)),
            "quotes": range(QUOTES),
        }

    def _spans(self, cleaned: Mapping[str, Any]) -> list[asking.Span]:
        """Raises ValueError for what is no list of places, or quotes what is not there."""
        try:
            rows = json.loads(cleaned.get("spans") or "[]")
            marked = [
                asking.Span(
                    self.shown[int(row["n"])],
                    int(row["start"]),
                    int(row["end"]),
                    str(row["label"]),
                    str(row.get("note", ""))[:300],
                )
                for row in rows
            ]
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise ValueError(BROKEN) from error
        return [*marked, *self._quoted(cleaned)]

    def _quoted(self, cleaned: Mapping[str, Any]) -> list[asking.Span]:
        found = []
        texts = self.texts()
        for k in range(QUOTES):
            quote, of = cleaned.get(f"quote_{k}"), cleaned.get(f"quote_{k}_of")
            if not quote or not of:
                continue
            slot = self.shown[int(of)]
            start = texts[slot].find(quote)
            if start < 0:
                raise ValueError(f"Answer {self.letters[int(of)]} does not say “{quote[:80]}”.")
            label = cleaned.get(f"quote_{k}_label") or "wrong"
            note = cleaned.get(f"quote_{k}_note") or ""
            found.append(asking.Span(slot, start, start + len(quote), label, note))
        return found
