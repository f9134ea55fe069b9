"""`manage.py verify`: is everything as the database says: files, votes, rounds, engines?

Changes nothing but a row with what it found, which the health page shows. Exit status 1 when
something is wrong.
"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.operations import verifying


class Command(BaseCommand):
    help = "Compare the database with files and engines; exit status 1 when they differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--quick", action="store_true", help="sizes of files, not their hashes")
        parser.add_argument("--json", action="store_true", help="one object instead of sentences")
        parser.add_argument("--only", action="append", default=[], metavar="CHECK")
        parser.add_argument("--no-engines", action="store_true", help="do not ask the engines")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = verifying.verify(
                quick=options["quick"], only=options["only"], engines=not options["no_engines"]
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.json()))
        else:
            self._say(report)
        if report.findings:
            raise SystemExit(1)

    def _say(self, report: verifying.Report) -> None:
        for name, title in report.titles.items():
            found = report.of(name)
            if not found:
                self.stdout.write(f"{name}: {title} ({report.checked[name]} looked at)")
            for one in found:
                self.stdout.write(f"{name}: {one.sentence}")
                if one.remedy:
                    self.stdout.write(f"    {one.remedy}")
        count = len(report.findings)
        said = "Nothing is wrong" if not count else f"{count} thing{'s' * (count > 1)} to look at"
        self.stdout.write(f"{said}, after {report.seconds:.1f} s.")
