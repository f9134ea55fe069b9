"""Form fields whose refusals are sentences, and the field of a declared knob."""

from __future__ import annotations

from typing import Any

from django import forms

from align.knobs import Knob


def number(
    label: str, help: str, *, least: int, most: int, unit: str = "", required: bool = True
) -> forms.IntegerField:
    """A whole-number field whose bounds are told in a sentence."""
    say = f"{label} must be between {least} and {most}."
    return forms.IntegerField(
        label=f"{label} ({unit})" if unit else label,
        help_text=help,
        required=required,
        min_value=least,
        max_value=most,
        error_messages={
            "required": f"{label} is missing.",
            "invalid": f"{label} must be a whole number.",
            "min_value": say,
            "max_value": say,
        },
    )


def real(
    label: str, help: str, *, least: float, most: float, required: bool = True
) -> forms.FloatField:
    """A decimal field whose bounds are told in a sentence."""
    say = f"{label} must be between {least:g} and {most:g}."
    return forms.FloatField(
        label=label,
        help_text=help,
        required=required,
        min_value=least,
        max_value=most,
        widget=forms.NumberInput(attrs={"step": "any"}),
        error_messages={
            "required": f"{label} is missing.",
            "invalid": f"{label} must be a number.",
            "min_value": say,
            "max_value": say,
        },
    )


def knob_field(one: Knob) -> forms.Field:
    """A form field for a declared knob. Its bounds are checked by the knob itself, in `clean`."""
    label = one.name.replace("_", " ").capitalize()
    about = f"{one.help} {_bounds(one)}".strip()
    if one.choices is not None:
        return forms.ChoiceField(
            label=label, help_text=about, choices=[(value, value) for value in one.choices]
        )
    if one.type is bool:
        return forms.BooleanField(label=label, help_text=about, required=False)
    attrs: dict[str, Any] = {"step": 1 if one.type is int else "any"}
    for attr, bound in (("min", one.at_least), ("max", one.at_most)):
        if bound is not None:
            attrs[attr] = f"{bound:g}"
    field = forms.IntegerField if one.type is int else forms.FloatField
    kind = "a whole number" if one.type is int else "a number"
    return field(
        label=label,
        help_text=about,
        widget=forms.NumberInput(attrs=attrs),
        error_messages={"required": f"{label} is missing.", "invalid": f"{label} must be {kind}."},
    )


def _bounds(one: Knob) -> str:
    """The knob's bounds in words: "Above 0." or "At least 0 and below 0.5."."""
    words = [
        f"{word} {bound:g}"
        for word, bound in (
            ("above", one.above),
            ("at least", one.at_least),
            ("below", one.below),
            ("at most", one.at_most),
        )
        if bound is not None
    ]
    return f"{' and '.join(words).capitalize()}." if words else ""
