"""What a researcher says of files that come in: what they are, where they go, where from."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.datastructures import MultiValueDict

from plumbline.accounts.models import Project
from plumbline.transfer import formats
from plumbline.transfer.models import Upload
from plumbline.transfer.uploads import LARGEST_FILE

MOST_FILES = 20  # at once


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Several files; cleans to a list."""

    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> Any:
        given = data if isinstance(data, list) else [data]
        return [super(ManyFilesField, self).clean(one, initial) for one in given]


class PlaceForm(forms.Form):
    """Where rows go, and what is known of where they are from."""

    set_name = forms.CharField(
        label="Prompt set",
        max_length=80,
        help_text="A new name makes a new set. One that is there takes what is not in it yet.",
        widget=forms.TextInput(attrs={"list": "sets", "autocomplete": "off"}),
    )
    campaign = forms.CharField(
        required=False,
        label="Campaign of the votes",
        max_length=120,
        help_text="A closed one is made for them. Empty: named after the prompt set.",
    )
    heldout = forms.FloatField(
        label="Held-out share of new prompts",
        min_value=0,
        max_value=0.9,
        initial=0.1,
        help_text="Kept from training, for evaluation, unless the file says so itself.",
        widget=forms.NumberInput(attrs={"step": "0.01"}),
    )
    source = forms.CharField(
        required=False,
        max_length=200,
        help_text="Where the data is from: an address or a few words.",
    )
    licence = forms.CharField(
        required=False, max_length=80, help_text="Such as MIT or CC-BY-4.0. Empty: not known."
    )

    def clean_campaign(self) -> str:
        return str(self.cleaned_data["campaign"]).strip()

    def clean_set_name(self) -> str:
        return str(self.cleaned_data["set_name"]).strip()


class FilesForm(PlaceForm):
    """Files to begin with."""

    chosen = ManyFilesField(
        label="Files",
        help_text="JSON lines, plain or gzipped, up to 256 MB each. "
        "Nothing is imported before you have seen what was found.",
        widget=ManyFilesInput(attrs={"accept": ".jsonl,.ndjson,.json,.gz"}),
    )
    format = forms.ChoiceField(required=False)
    field_order = ("chosen", "format", "set_name", "campaign", "heldout", "source", "licence")

    def __init__(
        self, data: Any = None, files: MultiValueDict[str, UploadedFile[Any]] | None = None
    ) -> None:
        super().__init__(data, files)
        choices = [("", "Find out from the file"), *formats.titles()]
        self.fields["format"] = forms.ChoiceField(required=False, choices=choices)
        self.order_fields(self.field_order)

    def clean_chosen(self) -> list[UploadedFile[Any]]:
        given: list[UploadedFile[Any]] = self.cleaned_data["chosen"]
        if len(given) > MOST_FILES:
            raise forms.ValidationError(f"At most {MOST_FILES} files at once.")
        for one in given:
            if (one.size or 0) > LARGEST_FILE:
                raise forms.ValidationError(
                    f"{one.name} is larger than {LARGEST_FILE >> 20} MB; "
                    "bring it in with manage.py import."
                )
        return given


class FileForm(PlaceForm):
    """One file that was read: the same, to be set right before it is imported."""

    format = forms.ChoiceField()
    field_order = ("format", "set_name", "campaign", "heldout", "source", "licence")

    def __init__(self, upload: Upload, data: Any = None) -> None:
        names = ("set_name", "campaign", "heldout", "source", "licence", "format")
        super().__init__(data, initial={name: getattr(upload, name) for name in names})
        choices = formats.titles()
        if not upload.format:
            choices.insert(0, ("", "Choose one"))
        self.fields["format"] = forms.ChoiceField(choices=choices, initial=upload.format)
        self.order_fields(self.field_order)


def sets(project: Project) -> list[str]:
    """Names to choose from."""
    return list(project.prompt_sets.order_by("name").values_list("name", flat=True))
