"""`manage.py reset_second_factor NAME --reason WHY`: for who lost the phone and has nobody to ask,
such as the last admin. Also ends that person's sessions; the password stays."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.accounts import second_factor
from plumbline.accounts.models import User


class Command(BaseCommand):
    help = "Take the second factor off an account."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--reason", required=True, help="shown to the person and logged")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["name"]).first()
        if user is None:
            raise CommandError(f"Nobody is called {options['name']!r}.")
        try:
            second_factor.reset(user, options["reason"], None)
        except ValueError as refused:
            raise CommandError(str(refused)) from refused
        self.stdout.write(f"{user} signs in without a second factor now.")
