"""Forms that take a code of the second factor: few guesses, and each code once."""

from __future__ import annotations

import re
from typing import Any

from allauth.core import context
from allauth.mfa.base import forms as base
from allauth.mfa.totp import forms as totp
from django.core.exceptions import ValidationError

from plumbline.accounts import guesses

VALID_FOR = 120  # seconds, a little more than a code of the app is


class _Guarded:
    user: Any

    def clean_code(self) -> str:
        name = str(self.user.pk)
        try:
            guess = guesses.secret(context.request, name, of="code")
        except guesses.TooMany as error:
            raise ValidationError("Too many wrong codes. Try again later.") from error
        code: str = super().clean_code()  # type: ignore[misc]
        if not guesses.once("code", name, re.sub(r"\W", "", code), seconds=VALID_FOR):
            raise ValidationError("This code was used already. Wait for the next one.")
        guess.right()
        return code


class CodeForm(_Guarded, base.AuthenticateForm):  # type: ignore[misc]  # allauth ships no types
    pass


class CodeAgainForm(_Guarded, base.ReauthenticateForm):  # type: ignore[misc]
    pass


class FirstCodeForm(_Guarded, totp.ActivateTOTPForm):  # type: ignore[misc]
    pass
