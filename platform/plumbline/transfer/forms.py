"""What a researcher chooses on the download page, and a file to check.

The options are those of `options.Options` that the chosen format has a place for. A format that was
only just chosen shows them at their defaults, whatever the one before it was set to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from django import forms
from django.http import QueryDict

from plumbline.accounts.models import Project
from plumbline.collect.models import Campaign
from plumbline.transfer import formats
from plumbline.transfer.options import Options
from plumbline.transfer.outgoing import Export, Selection

FIRST = "trl_preference"
LARGEST_FILE = 64 << 20  # bytes; the command takes any
MOST_ROUNDS = 200


class ExportForm(forms.Form):
    """A query is always answered: what is missing in it stands at its default."""

    campaigns = forms.ModelMultipleChoiceField(
        Campaign.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: all of them.",
    )
    round = forms.ChoiceField(
        required=False,
        label="Of which round",
        help_text="A round’s are exactly those that it trained on, changed since or not.",
    )
    format = forms.ChoiceField(label="Format")
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, project: Project, query: QueryDict) -> None:
        written = formats.exporters()
        asked = query.get("format", FIRST)
        self.query = data = query.copy()  # with everything that it left open
        self.project, self.name = project, asked if asked in written else FIRST
        self.exporter = written[self.name]
        data.setdefault("format", FIRST)
        fresh = query.get("shown") != self.name
        super().__init__(data)
        for name, field, default in _option_fields(self.exporter):
            self.fields[name] = field
            if (fresh and name not in query) or (fresh and not _takes(field, query.get(name, ""))):
                if default is False:
                    data.pop(name, None)
                else:
                    data[name] = "on" if default is True else str(default)
        data["shown"] = self.name
        campaigns = self.fields["campaigns"]
        assert isinstance(campaigns, forms.ModelMultipleChoiceField)
        campaigns.queryset = project.campaigns.all()
        titles = [(name, one.TITLE) for name, one in written.items()]
        self.fields["format"] = forms.ChoiceField(label="Format", choices=titles)
        self.fields["round"].choices = [("", "Votes that stand now"), *_rounds(project)]  # type: ignore[attr-defined]

    @property
    def options(self) -> list[forms.BoundField]:
        return [self[one.name] for one in fields(Options) if one.name in self.fields]

    def export(self) -> Export:
        """What a valid form asks for."""
        given = self.cleaned_data
        chosen = {one.name: given[one.name] for one in fields(Options) if one.name in given}
        campaigns = tuple(sorted(campaign.pk for campaign in given["campaigns"]))
        round = int(given["round"]) if given["round"] else None
        return Export(Selection(self.project, campaigns, round), Options(**chosen))


class FileForm(forms.Form):
    """A file to be checked against a format."""

    against = forms.ChoiceField(label="Format")
    file = forms.FileField(
        label="File", help_text="JSON lines, plain or gzipped, up to 64 MB. Nothing of it is kept."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["against"] = forms.ChoiceField(
            label="Format", choices=formats.titles(), initial=FIRST
        )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > LARGEST_FILE:
            raise forms.ValidationError(
                "The file is larger than 64 MB; check it with manage.py validate."
            )
        return file


def _option_fields(format: formats.Exporter) -> Iterator[tuple[str, forms.Field, object]]:
    """(name, field, default) of the options that a format has a place for."""
    for one in fields(Options):
        about: Mapping[str, Any] = one.metadata
        if one.name not in ("split", *format.TAKES):
            continue
        if "choices" not in about:
            field: forms.Field = forms.BooleanField(
                required=False, label=about["label"], help_text=about["help"]
            )
        else:
            choices = about["choices"].items()
            if one.name == "ties":
                choices = [(value, label) for value, label in choices if value in format.TIES]
                if len(choices) < 2:
                    continue
            field = forms.ChoiceField(
                choices=list(choices), label=about["label"], help_text=about["help"]
            )
        yield one.name, field, one.default


def _takes(field: forms.Field, value: str) -> bool:
    """Whether a value is one that the field can hold."""
    if not isinstance(field, forms.ChoiceField):
        return True
    return field.valid_value(value)


def _rounds(project: Project) -> Iterator[tuple[int, str]]:
    """The newest rounds that have frozen their votes."""
    frozen = project.experiments.filter(rounds__ballots_sha256__gt="").order_by(
        "-rounds__started_at"
    )
    for pk, name, number in frozen.values_list("rounds__id", "name", "rounds__number")[
        :MOST_ROUNDS
    ]:
        yield pk, f"{name}, round {number}"
