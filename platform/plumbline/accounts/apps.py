"""What the audit hears of people: Django says when somebody signs in, joins or goes."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "plumbline.accounts"

    def ready(self) -> None:
        from plumbline.accounts import audited  # its models exist only now

        audited.listen()
