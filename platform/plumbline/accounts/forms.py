"""Forms of people and keys. Labels and help here are what the pages show."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import BaseUserCreationForm, PasswordChangeForm
from django.utils import timezone

from plumbline.accounts import guesses
from plumbline.accounts.models import ApiKey, Project, Role, Scope, User

if TYPE_CHECKING:
    from plumbline.permissions import PlumblineRequest

    JoinBase = BaseUserCreationForm[User]
    LimitsBase = forms.ModelForm[ApiKey]
    PricesBase = forms.ModelForm[Project]
else:
    JoinBase = BaseUserCreationForm
    LimitsBase = PricesBase = forms.ModelForm


class JoinForm(JoinBase):
    """A new person's user name and password."""

    class Meta:
        model = User
        fields = ["username"]
        labels = {"username": "User name"}
        help_texts = {"username": "Letters, digits and @ . + - _"}


class ChangePasswordForm(PasswordChangeForm):
    """A new password for who knows the old one; whoever found a browser open may not guess it."""

    def __init__(self, request: PlumblineRequest, *args: Any, **named: Any) -> None:
        self.request = request
        super().__init__(request.user, *args, **named)

    def clean_old_password(self) -> str:
        try:
            guess = guesses.secret(self.request, self.user.username)
        except guesses.TooMany as error:
            raise forms.ValidationError("Too many wrong passwords. Try again later.") from error
        password = super().clean_old_password()
        guess.right()
        return password


class ResetForm(forms.Form):
    reason = forms.CharField(
        min_length=5, max_length=300, help_text="The person sees it, and it stays on record."
    )


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
    expires = forms.TypedChoiceField(
        choices=[("", "Never"), (7, "In 7 days"), (30, "In 30 days"), (90, "In 90 days")]
        + [(365, "In a year")],
        coerce=lambda days: timezone.now() + timedelta(days=int(days)),
        empty_value=None,
        required=False,
    )


class RotateForm(forms.Form):
    overlap = forms.TypedChoiceField(
        choices=[(0, "Stops now"), (1, "Goes on for an hour"), (24, "Goes on for a day")]
        + [(168, "Goes on for a week")],
        coerce=int,
        initial=24,
        label="The old secret",
    )


LIMITS = {
    "requests_per_minute": "Requests a minute",
    "tokens_per_minute": "Tokens a minute",
    "tokens_per_day": "Tokens a day",
    "tokens_per_month": "Tokens a month",
}
CAPS = {
    "most_choices": "Answers in one request",
    "most_tokens": "Tokens in one answer",
    "longest_prompt": "Characters in one prompt",
}


class KeyLimitsForm(LimitsBase):
    """What a key may do, until when. An empty limit is the one that the settings give to all keys,
    0 is none."""

    class Meta:
        model = ApiKey
        fields = ["expires_at", *LIMITS, *CAPS]
        labels = {"expires_at": "Last day", **LIMITS, **CAPS}
        field_classes = {"expires_at": forms.DateField}
        widgets = {"expires_at": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")}

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        for name in LIMITS:
            shared = getattr(settings, f"KEY_{name.upper()}")
            said = f"{shared:,}, as all keys" if shared else "No limit"
            self.fields[name].widget.attrs["placeholder"] = said
        for name in CAPS:
            self.fields[name].widget.attrs["placeholder"] = "As many as the API takes"

    def clean_expires_at(self) -> datetime | None:
        """The end of that day; a day that stays as it was keeps its hour."""
        day = self.cleaned_data["expires_at"]
        if day is None:
            return None
        before = self.instance.expires_at
        if before is not None and before.date() == day:
            return before
        return timezone.make_aware(datetime.combine(day, time.max))

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or self.cleaned_data
        for name in CAPS:
            if cleaned.get(name) == 0:
                self.add_error(name, "A cap of 0 would refuse everything; leave it empty for none.")
        return cleaned


class PricesForm(PricesBase):
    """What tokens cost: both prices, or neither; and what all keys may use together."""

    class Meta:
        model = Project
        fields = ["price_in", "price_out", "currency", *LIMITS]
        labels = {
            "price_in": "A million tokens in",
            "price_out": "A million tokens out",
            **{name: f"{label}, all keys together" for name, label in LIMITS.items()},
        }
        widgets = {"currency": forms.TextInput(attrs={"maxlength": 3})}

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        for name in LIMITS:
            self.fields[name].widget.attrs["placeholder"] = "No limit"

    def clean_currency(self) -> str:
        code = str(self.cleaned_data["currency"]).upper()
        if len(code) != 3 or not (code.isascii() and code.isalpha()):
            raise forms.ValidationError("Three letters, such as USD or EUR.")
        return code

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or self.cleaned_data
        prices = [cleaned.get(name) for name in ("price_in", "price_out")]
        if any(price is not None and price < 0 for price in prices):
            raise forms.ValidationError("A price is not negative.")
        if not self.errors and (prices[0] is None) != (prices[1] is None):
            raise forms.ValidationError("Give both prices, or neither.")
        return cleaned
