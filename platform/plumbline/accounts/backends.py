"""Who a request's person is: the ways to sign in, with the one question that each request asks of
them compiled once (`plumbline.compiled`)."""

from __future__ import annotations

from typing import Any

import sesame.backends
from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth import backends

from plumbline.accounts.models import User
from plumbline.compiled import Compiled, given_id

_USER = Compiled(lambda: User.objects.filter(pk=given_id("user")))


class _Known(backends.ModelBackend):
    def get_user(self, user_id: Any) -> User | None:
        user = _USER.first(user=user_id)
        return user if user is not None and self.user_can_authenticate(user) else None


class ByPassword(_Known, AuthenticationBackend):  # type: ignore[misc]
    """By name and password, or as somebody who has just joined."""


class ByLink(_Known, sesame.backends.ModelBackend):  # type: ignore[misc]
    """By a link that was sent."""
