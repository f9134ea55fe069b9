"""Rows of a campaign's form: its criteria and its examples, a small form each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms import BaseFormSet, formset_factory

from plumbline.collect import asking

MOST_EXAMPLES = 6


def _lines(rows: int) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows})


class CriterionForm(forms.Form):
    """One scale; a row without a name is no criterion."""

    name = forms.CharField(required=False, max_length=40, label="Name in one word")
    question = forms.CharField(required=False, max_length=200)
    least = forms.IntegerField(required=False, min_value=0, max_value=9, initial=1, label="From")
    most = forms.IntegerField(required=False, min_value=1, max_value=10, initial=5, label="To")
    low = forms.CharField(required=False, max_length=40, label="The low end means")
    high = forms.CharField(required=False, max_length=40, label="The high end means")

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if not self.errors and given.get("name"):
            try:
                asking.Criterion(**criterion(given))
            except ValueError as error:
                self.add_error("name", str(error))
        elif given.get("question"):
            self.add_error("name", "Name this criterion in one word, or clear its question.")
        return given


class ExampleForm(forms.Form):
    """A comparison as it should be judged, shown beside the guidelines."""

    prompt = forms.CharField(required=False, max_length=2000, widget=_lines(3))
    why = forms.CharField(required=False, max_length=1000, label="Why", widget=_lines(3))
    better = forms.CharField(required=False, max_length=4000, widget=_lines(4))
    worse = forms.CharField(required=False, max_length=4000, widget=_lines(4))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if any(given.values()):
            for name in ("prompt", "better", "worse"):
                if not given.get(name):
                    self.add_error(name, "An example has a prompt, a better and a worse answer.")
        return given


CriteriaSet = formset_factory(CriterionForm, extra=0, max_num=asking.MOST_CRITERIA)
ExampleSet = formset_factory(ExampleForm, extra=0, max_num=MOST_EXAMPLES)


def rows_of(
    made: type[BaseFormSet[Any]], prefix: str, given: list[dict[str, Any]], data: Any
) -> BaseFormSet[Any]:
    """The rows that there are and empty ones up to the most there may be."""
    if data is not None:
        return made(data, prefix=prefix)
    empty = made.max_num - len(given)
    return made(prefix=prefix, initial=[*given, *[{}] * empty])


def criterion(row: Mapping[str, Any]) -> dict[str, Any]:
    least, most = row.get("least"), row.get("most")
    return {
        "name": row["name"],
        "question": row.get("question", ""),
        "least": 1 if least is None else least,
        "most": 5 if most is None else most,
        "low": row.get("low", ""),
        "high": row.get("high", ""),
    }
