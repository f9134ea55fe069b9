"""The part of a campaign's form that makes it live."""

from __future__ import annotations

from typing import Any

from django import forms

from plumbline.accounts.models import Project
from plumbline.collect import asking
from plumbline.collect.live import settings
from plumbline.collect.models import Campaign, Prompt, PromptSet


class LiveForm(forms.Form):
    """Without `on` the rest is not looked at."""

    on = forms.BooleanField(
        required=False,
        label="Live answers",
        help_text="Two answers are written before a person’s eyes instead of being stored before.",
    )
    writing = forms.BooleanField(
        required=False,
        label="People write prompts of their own",
        help_text="And may go on with the better answer.",
    )
    prompts = forms.ModelChoiceField(
        PromptSet.objects.none(),
        required=False,
        label="Prompts",
        empty_label="Only people’s own",
        help_text="Each prompt of the set is asked once.",
    )
    first = forms.ChoiceField(label="One side", help_text="People never learn which side is which.")
    second = forms.ChoiceField(
        label="Other side", help_text="The same one twice gives two samples of it."
    )
    temperature = forms.FloatField(
        label="Temperature",
        widget=forms.NumberInput(attrs={"step": "any"}),
        error_messages={
            "required": "Temperature is missing.",
            "invalid": "Temperature must be a number.",
        },
    )
    max_tokens = forms.IntegerField(
        label="Longest answer",
        help_text=f"In tokens, {settings.MOST_TOKENS} at most.",
        error_messages={
            "required": "Longest answer is missing.",
            "invalid": "Longest answer must be a whole number of tokens.",
        },
    )

    def __init__(self, project: Project, campaign: Campaign | None, data: Any = None) -> None:
        kept = settings.of(campaign) if campaign else None
        initial = {**(kept or settings.Live()).json, "on": kept is not None}
        super().__init__(data, initial=initial, prefix="live")
        prompts, names = self.fields["prompts"], settings.samplable(project)
        assert isinstance(prompts, forms.ModelChoiceField)
        prompts.queryset = PromptSet.objects.filter(project=project).order_by("name")
        for side in ("first", "second"):
            field = self.fields[side]
            assert isinstance(field, forms.ChoiceField)
            here = {
                **names,
                **({getattr(kept, side): getattr(kept, side)} if kept else {}),
                **names,
            }
            field.choices = list(here.items())
        if data is not None and not self["on"].value():
            for field in self.fields.values():
                field.required = False

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if not given.get("on"):
            self.errors.clear()
            return given
        if not self.errors:
            try:
                settings.read(self._values())
            except ValueError as error:
                self.add_error(_named(str(error)), str(error))
        return given

    def check(self, asks: list[str], purpose: str) -> None:
        """Raises ValueError where the rest of the campaign does not go with live answers."""
        if not self.cleaned_data.get("on"):
            return
        if asking.COMPARE not in asks:
            raise ValueError("Live answers come in pairs, so people are asked which is better.")
        chosen: PromptSet | None = self.cleaned_data.get("prompts")
        if chosen and not chosen.prompts.filter(split=split(purpose)).exists():
            kind = Prompt.Split(split(purpose)).label.lower()
            raise ValueError(f"{chosen} has no {kind} prompts, which this purpose needs.")

    def values(self) -> dict[str, Any]:
        """The campaign's JSON, of a valid form."""
        return settings.read(self._values()).json if self.cleaned_data.get("on") else {}

    def _values(self) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        del given["on"]
        return {**given, "prompts": given["prompts"].pk if given["prompts"] else None}


def split(purpose: str) -> str:
    """The prompts that a campaign of this purpose may ask about."""
    training = purpose == Campaign.Purpose.TRAIN
    return Prompt.Split.TRAIN if training else Prompt.Split.HELDOUT


def _named(sentence: str) -> str:
    """The field that a refusal speaks of."""
    names = {"Prompts": "prompts", "Temperature": "temperature", "Longest": "max_tokens"}
    return names[sentence.split()[0].strip(":")]
