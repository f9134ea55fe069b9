"""What the ballot page sends. The key makes sending twice the same as sending once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django import forms

from plumbline.collect import screen
from plumbline.collect.models import Ballot
from plumbline.collect.queue import Verdict

SKIP_REASONS = [
    "I do not know this topic",
    "The answers are the same",
    "A text is broken",
    "Upsetting or unsafe",
    "Another reason",
]


class BallotForm(forms.Form):
    """A pair gets one scale; three or more answers get a place each."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    comment = forms.CharField(required=False, max_length=2000)
    active_ms = forms.IntegerField(required=False, min_value=0)

    def __init__(self, ballot: Ballot, data: Any = None) -> None:
        super().__init__(data)
        self.ballot = ballot
        if self.is_pair:
            self.fields["choice"] = forms.ChoiceField(
                choices=screen.pair_choices(),
                error_messages={"required": "Say which answer is better."},
            )
            return
        self.fields["all_bad"] = forms.BooleanField(required=False)
        for n in range(len(ballot.shown)):
            self.fields[f"place_{n}"] = forms.IntegerField(
                required=False, min_value=1, max_value=len(ballot.shown)
            )

    @property
    def is_pair(self) -> bool:
        return len(self.ballot.shown) == 2

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.is_pair and not cleaned.get("all_bad") and None in self._places():
            raise forms.ValidationError("Give each answer a place; equal places tie.")
        return cleaned

    def verdict(self) -> Verdict:
        """What a valid form says of the slots."""
        given = self.cleaned_data
        if self.is_pair:
            verdict = screen.read_pair(given["choice"], self.ballot.shown)
        elif given["all_bad"]:
            verdict = Verdict(Ballot.Outcome.ALL_BAD)
        else:
            places = [place for place in self._places() if place is not None]
            verdict = screen.read_places(places, self.ballot.shown)
        return replace(verdict, comment=given["comment"], active_ms=given["active_ms"])

    def _places(self) -> list[int | None]:
        return [self.cleaned_data.get(f"place_{n}") for n in range(len(self.ballot.shown))]


class SkipForm(forms.Form):
    key = forms.UUIDField(widget=forms.HiddenInput)
    reason = forms.CharField(max_length=300)


class UndoForm(forms.Form):
    ballot = forms.UUIDField(widget=forms.HiddenInput)
