"""Sign-up is closed: people come in by invitation links only."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from plumbline.accounts.models import User


class InvitationOnly(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """Somebody switched off gets the answer a wrong password gets, not a page of their own."""
        user = super().authenticate(request, **credentials)
        return user if isinstance(user, User) and user.is_active else None
