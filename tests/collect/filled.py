"""What a browser sends of the campaign form: everything on the page, with some of it changed."""

from __future__ import annotations

from typing import Any

from django import forms

from plumbline.collect.campaign_forms import CampaignForm


def in_form(project, campaign=None, **changes) -> dict[str, Any]:
    """The form's fields as its page has them, then changed; `examples_0_prompt` is of a row."""
    form = CampaignForm(project, campaign)
    data: dict[str, Any] = {}
    for field in form:
        data |= _sent(field)
    for rows in form.sets.values():
        for field in rows.management_form:
            data |= _sent(field)
        for row in rows:
            for field in row:
                data |= _sent(field)
    for name, value in changes.items():
        prefix, _, rest = name.partition("_")
        if prefix in form.sets:
            number, _, rest = rest.partition("_")
            name = f"{prefix}-{number}-{rest}"
        data[name] = value
    return {name: value for name, value in data.items() if value is not None}


def _sent(field) -> dict[str, Any]:
    value = field.value()
    if isinstance(field.field.widget, forms.CheckboxInput):
        return {field.html_name: "on"} if value else {}
    if isinstance(value, list):
        return {field.html_name: value}
    return {field.html_name: "" if value is None else field.field.widget.format_value(value)}
