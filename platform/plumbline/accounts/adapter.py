"""How people sign in: by invitation links only, and not by guessing."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth import authenticate
from django.http import HttpRequest, HttpResponse

from plumbline.accounts import guesses, visits
from plumbline.accounts.addresses import client_address
from plumbline.accounts.models import User

WAY_IN = "way_in"


class InvitationOnly(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """Somebody switched off gets the answer a wrong password gets, not a page of their own; and
        whoever guesses too much gets one answer, whether the name exists or not."""
        try:
            guess = guesses.secret(request, str(credentials.get("username", "")))
        except guesses.TooMany as error:
            raise self.validation_error("too_many_login_attempts") from error
        user = authenticate(request, **credentials)
        if not isinstance(user, User) or not user.is_active:
            return None
        guess.right()
        return user

    def pre_login(self, request: HttpRequest, user: User, **named: Any) -> HttpResponse | None:
        """Before the second factor, after which nobody else knows which way somebody came."""
        request.session[WAY_IN] = getattr(user, "backend", visits.BACKEND)
        refused: HttpResponse | None = super().pre_login(request, user, **named)
        return refused

    def login(self, request: HttpRequest, user: User) -> None:
        """After the second factor, where there is one."""
        visits.begin(request, user, request.session.pop(WAY_IN, visits.BACKEND))

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """A phone alone does not turn off what protects it: who has a password is asked for it."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return methods[:1]

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request)
