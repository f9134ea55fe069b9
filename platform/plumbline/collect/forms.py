"""What the ballot page sends. The key makes sending twice the same as sending once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from plumbline.collect import kinds
from plumbline.collect.models import Ballot
from plumbline.collect.queue import Verdict

SKIP_REASONS = (
    "I do not know this topic",
    "The answers are the same",
    "I cannot decide",
    "A text is broken",
    "Another reason",
)
FLAG_REASONS = (
    "Upsetting or unsafe",
    "Personal data",
    "A text is broken",
    "The prompt makes no sense",
    "Another reason",
)
NOT_DRAFTED = {"csrfmiddlewaretoken", "key", "active_ms", "seen_0", "seen_1", "reviewed"}
MOST_DRAFTED = 200_000  # characters of all fields together


class BallotForm(forms.Form):
    """All that a campaign asks of one comparison, made of a part for each kind of question."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    active_ms = forms.IntegerField(required=False, min_value=0)

    def __init__(self, ballot: Ballot, data: Any = None) -> None:
        super().__init__(data)
        self.parts = kinds.parts(ballot)
        for part in self.parts:
            self.fields.update(part.fields())

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for part in self.parts:
            if problem := part.problem(cleaned):
                self.add_error(None, problem)
        return cleaned

    def verdict(self) -> Verdict:
        """What a valid form says of the slots."""
        said: dict[str, Any] = {"outcome": Ballot.Outcome.ABSOLUTE}
        for part in self.parts:
            said |= part.said(self.cleaned_data)
        return Verdict(**said, active_ms=self.cleaned_data["active_ms"])


def given(sent: QueryDict) -> dict[str, Any]:
    """What was sent, by field, as drafts keep it. Raises ValueError when it is too much to keep."""
    fields: dict[str, Any] = {
        name: sent.getlist(name) if name == "reasons" else sent[name]
        for name in sent
        if name not in NOT_DRAFTED and sent[name]
    }
    if sum(len(str(value)) for value in fields.values()) > MOST_DRAFTED:
        raise ValueError("This is too long to be kept as a draft.")
    return fields


def sentences(form: forms.Form) -> list[str]:
    """Everything that is wrong, once each."""
    return list(dict.fromkeys(str(error) for found in form.errors.values() for error in found))


class SkipForm(forms.Form):
    key = forms.UUIDField(widget=forms.HiddenInput)
    reason = forms.CharField(max_length=300)


class FlagForm(SkipForm):
    words = forms.CharField(required=False, max_length=2000)


class UndoForm(forms.Form):
    ballot = forms.UUIDField(widget=forms.HiddenInput)
