"""`manage.py doctor`: what is wrong on this machine, in sentences, and what to do about it.

Works without a database, without migrations and without Redis. Exit status 1 when something is
wrong; what merely should be looked at does not count.
"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.operations import diagnoses


class Command(BaseCommand):
    help = "Say what is wrong on this machine and what to do; exit status 1 when something is."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one object instead of sentences")
        parser.add_argument("--only", action="append", default=[], metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        if unknown := sorted(set(options["only"]) - diagnoses.EVERY.keys()):
            raise CommandError(f"{unknown[0]!r} is none of {', '.join(diagnoses.EVERY)}.")
        wanted = options["only"] or list(diagnoses.EVERY)
        found = {name: diagnoses.EVERY[name]() for name in wanted}
        wrong = sum(one.level == "wrong" for one in found.values())
        if options["json"]:
            told = {"ok": not wrong, "found": {name: one.json() for name, one in found.items()}}
            self.stdout.write(json.dumps(told))
        else:
            width = max(map(len, found))
            for name, one in found.items():
                mark = "" if one.level == "ok" else f"{one.words.upper()}: "
                self.stdout.write(f"{name:<{width}}  {mark}{one.sentence}")
                if one.remedy:
                    self.stdout.write(f"{'':<{width}}  -> {one.remedy}")
        if wrong:
            raise SystemExit(1)
