"""`manage.py reseal`: put every sealed secret under the present SECRET_KEY, so that old ones can be
taken out of SECRET_KEY_FALLBACKS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from plumbline.accounts import second_factor


class Command(BaseCommand):
    help = "Seal secrets anew under the present SECRET_KEY."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = second_factor.reseal()
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} sealed anew.")
