"""Forms of being forgotten: one's own wish, and carrying it out. Each asks for something that is
not typed by mistake."""

from __future__ import annotations

from typing import Any

from django import forms

from plumbline.accounts import guesses
from plumbline.accounts.models import User
from plumbline.permissions import PlumblineRequest

VOTES = "Take my votes out of all training to come"


class ForgetMeForm(forms.Form):
    """Confirmed by the password, so that nobody who found a browser open wishes it; by the user
    name of who comes in by link and has none."""

    withdraw_votes = forms.BooleanField(
        required=False,
        label=VOTES,
        help_text="Policies that learned from them are not unmade; the project can rebuild those.",
    )
    confirm = forms.CharField(max_length=150)

    def __init__(self, request: PlumblineRequest, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.request, self.user = request, request.user
        field = self.fields["confirm"]
        if self.user.has_usable_password():
            field.label = "Password"
            field.widget = forms.PasswordInput(attrs={"autocomplete": "current-password"})
            field.strip = False  # type: ignore[attr-defined]
            field.max_length = None  # type: ignore[attr-defined]
        else:
            field.label = f"Type {self.user.username} to confirm"
            field.widget = forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"})

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if not self.user.has_usable_password():
            if said != self.user.username:
                raise forms.ValidationError("That is not your user name.")
            return said
        try:
            guess = guesses.secret(self.request, self.user.username)
        except guesses.TooMany as error:
            raise forms.ValidationError("Too many wrong passwords. Try again later.") from error
        if not self.user.check_password(said):
            raise forms.ValidationError("That is not your password.")
        guess.right()
        return said


class ForgetForm(forms.Form):
    """Confirmed by the member's name: the list may hold several."""

    reason = forms.CharField(
        min_length=5,
        max_length=300,
        help_text="Kept with it for good, so without names or other personal data.",
    )
    withdraw_votes = forms.BooleanField(
        required=False, label="Take their votes out of all training to come"
    )
    confirm = forms.CharField(
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )

    def __init__(self, member: User, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.member = member
        self.fields["confirm"].label = f"Type {member.username} to confirm"

    def clean_confirm(self) -> str:
        said: str = self.cleaned_data["confirm"]
        if said != self.member.username:
            raise forms.ValidationError("That is not the member's user name.")
        return said
