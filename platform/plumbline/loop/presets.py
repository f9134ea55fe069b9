"""What an algorithm's presets would change in a launch form as it stands, and filling one in.

The presets are declared with the algorithms (`Algorithm.offered`); here their values are put beside
those of a form, so that nobody fills one in without seeing what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

from plumbline.loop.forms import KNOB, ExperimentForm

TITLES = {"published": "Published", "theory": "Theory-faithful", "quick": "Quick"}
SETS = {"prompts_per_round": "train", "heldout_prompts": "heldout"}  # bounded by the prompt set


@dataclass(frozen=True)
class Setting:
    """A setting as it is and as it would be, in words."""

    label: str
    before: str
    after: str

    @property
    def changes(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class Offer:
    """A preset as people read it. `changed` are those of its settings that differ from the form."""

    name: str
    title: str
    about: str
    source: str
    settings: list[Setting]

    @property
    def changed(self) -> list[Setting]:
        return [one for one in self.settings if one.changes]


def values(form: ExperimentForm, name: str) -> dict[str, Any]:
    """The form's values of a preset of its algorithm; none for a name it does not have. Numbers of
    prompts are no larger than the form's prompt set."""
    chosen = form.chosen.offered().get(name)
    if chosen is None:
        return {}
    found = {**chosen.round, **{KNOB + knob: value for knob, value in chosen.knobs.items()}}
    prompts = form.sets.get(str(form["prompt_set"].value()))
    for field, split in SETS.items():
        if prompts is not None and field in found:
            found[field] = max(1, min(found[field], getattr(prompts, split)))
    return found


def offers(form: ExperimentForm) -> list[Offer]:
    """Every preset of the form's algorithm, beside what the form holds now."""
    return [
        Offer(
            name=name,
            title=TITLES.get(name, name.capitalize()),
            about=one.about,
            source=one.source,
            settings=list(beside(form, values(form, name))),
        )
        for name, one in form.chosen.offered().items()
    ]


def beside(form: ExperimentForm, wanted: Mapping[str, Any]) -> Iterator[Setting]:
    """Values wanted for fields of a form, each with the one that it holds, both in words."""
    for name, value in wanted.items():
        if name in form.fields:
            field = form.fields[name]
            label = str(field.label)
            yield Setting(label, in_words(field, form[name].value()), in_words(field, value))


def in_words(field: forms.Field, value: Any) -> str:
    """A field's value as its page shows it: a choice by its label, a number without its zeros."""
    if isinstance(field, forms.BooleanField):
        return "on" if value not in (None, False, "", "False", "off") else "off"
    if value in (None, ""):
        return "none"
    if isinstance(field, forms.MultipleChoiceField):
        named = {str(key): str(label) for key, label in field.widget.choices}
        return ", ".join(sorted(named.get(str(one), "none") for one in value)) or "none"
    if isinstance(field, forms.ChoiceField):
        labels = {str(key): str(label) for key, label in field.widget.choices}
        return labels.get(str(value), "none")
    try:
        return f"{float(value):.10g}"
    except (TypeError, ValueError):
        return str(value)
