"""Forms of people and keys. Labels and help here are what the pages show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm

from plumbline.accounts.models import Role, Scope, User

if TYPE_CHECKING:
    JoinBase = BaseUserCreationForm[User]
else:
    JoinBase = BaseUserCreationForm


class JoinForm(JoinBase):
    """A new person's user name and password."""

    class Meta:
        model = User
        fields = ["username"]
        labels = {"username": "User name"}
        help_texts = {"username": "Letters, digits and @ . + - _"}


class InviteForm(forms.Form):
    role = forms.ChoiceField(choices=Role, initial=Role.ANNOTATOR)


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What will use it: “mobile app”, “notebook”.")
    scopes = forms.MultipleChoiceField(
        choices=Scope,
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.INFER, Scope.FEEDBACK],
        label="May",
    )
