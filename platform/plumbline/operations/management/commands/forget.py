"""`manage.py forget USER --by ADMIN --reason WHY`: delete a person's data, and say what stays;
without a name, who asks for it."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.accounts.models import User
from plumbline.operations import farewells


class Command(BaseCommand):
    help = "Forget a person: their name, texts, keys and sessions go; votes stay without a name."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", help="none: who asks for it, and until when")
        parser.add_argument("--by", help="who does it, by their username; kept")
        parser.add_argument("--reason", help="kept with it; no personal data, please")
        parser.add_argument(
            "--withdraw-votes",
            action="store_true",
            help="all training to come goes without their votes",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask first")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["username"]:
            self._wishes(options["json"])
            return
        if not options["by"] or not options["reason"]:
            raise CommandError("Say who does it and why: --by ADMIN --reason WHY.")
        user, actor = _user(options["username"]), _user(options["by"])
        try:
            farewells.check(user)
            if not options["yes"] and input(self._question(user)).strip() != user.username:
                raise CommandError("Nothing was changed.")
            farewell = farewells.forget(
                user,
                actor=actor,
                reason=options["reason"],
                withdraw_votes=options["withdraw_votes"],
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(farewell.done))
            return
        self.stdout.write(f"{user.username} is {farewell.done['name']} from now on. Gone:")
        for what, count in farewell.done["gone"].items():
            said = ", ".join(count) if isinstance(count, list) else count
            self.stdout.write(f"    {what}: {said or 'none'}")
        self.stdout.write(f"What stays, of {farewell.done['votes_kept']} answers:")
        for one in farewell.done["stays"]:
            self.stdout.write(f"    {one}")
        self.stdout.write("Backups that were made before still hold it all until you delete them.")

    def _wishes(self, as_json: bool) -> None:
        """People who asked for it on their page, the oldest wish first."""
        found = [
            {
                "username": wish.user.username,
                "asked_at": wish.asked_at.isoformat(),
                "due": wish.due.isoformat(),
                "withdraw_votes": wish.withdraw_votes,
            }
            for wish in farewells.open_wishes()
        ]
        if as_json:
            self.stdout.write(json.dumps(found))
            return
        for one in found:
            votes = ", and take their votes along" if one["withdraw_votes"] else ""
            self.stdout.write(f"{one['username']}: by {str(one['due'])[:10]}{votes}")
        if not found:
            self.stdout.write("Nobody asks for it.")

    def _question(self, user: User) -> str:
        return f"This cannot be undone. Type {user.username} to go on: "


def _user(name: str) -> User:
    found = User.objects.filter(username=name).first()
    if found is None:
        raise CommandError(f"There is nobody called {name}.")
    return found
