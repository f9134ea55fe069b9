"""`manage.py restore DIR`: a backup into this PLUMBLINE_HOME and this database, then verified;
`--undo` takes one back that did not end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.operations import archive, restoring


class Command(BaseCommand):
    help = "Restore a backup where nothing is, or with --replace; exit status 1 if it has drifted."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, nargs="?")
        parser.add_argument(
            "--replace",
            action="store_true",
            help="files that are there go aside, and what the database holds is dumped there",
        )
        parser.add_argument(
            "--undo",
            action="store_true",
            help="bring back what was there before a restore that was begun and did not end",
        )
        parser.add_argument("--no-engines", action="store_true", help="do not ask the engines")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["undo"] == bool(options["folder"]):
            raise CommandError("Name the folder of a backup, or say --undo.")
        try:
            if options["undo"]:
                self._undo()
                return
            done = restoring.restore(
                options["folder"].absolute(),
                replace=options["replace"],
                engines=not options["no_engines"],
            )
        except archive.Refused as error:
            raise CommandError(f"{error}{_what_now()}") from error
        report = done.report
        assert report is not None
        if options["json"]:
            facts = {"made_at": done.made_at, "files": done.files, "moved": done.moved}
            facts |= {"seconds": round(done.seconds, 1), "secret_key": done.key}
            self.stdout.write(json.dumps({**facts, "verify": report.json()}))
        else:
            self._say(done, report.findings)
        if report.findings:
            raise SystemExit(1)

    def _undo(self) -> None:
        journal = restoring.undo()
        self.stdout.write(
            f"What was there before the restore of {journal.source} is there again. Processes that "
            "run must be started again; manage.py verify looks whether all is well."
        )

    def _say(self, done: restoring.Restored, findings: list[Any]) -> None:
        self.stdout.write(f"Restored what was there at {done.made_at}: {done.files} files.")
        if done.moved:
            self.stdout.write(f"{done.moved} rows now name this PLUMBLINE_HOME.")
        for path in done.aside:
            self.stdout.write(f"What was there before is at {path}.")
        if done.key:
            self.stdout.write("The secret key came too; processes that run must be started again.")
        else:
            self.stdout.write(
                "The secret key was not in it: unless SECRET_KEY is the old one, people sign in "
                "anew and API keys are void."
            )
        for one in findings:
            self.stdout.write(f"{one.check}: {one.sentence}")
        count = len(findings)
        self.stdout.write("Whether the audit is whole: manage.py audit, with the old key in place.")
        said = "Verified, nothing is wrong" if not count else f"{count} findings of verify"
        self.stdout.write(f"{said}; {done.seconds:.1f} s in all.")


def _what_now() -> str:
    """After a restore that has begun to change things."""
    if restoring.under_way() is None:
        return ""
    return (
        " The restore has not ended: the same command again goes on with it, and "
        "`manage.py restore --undo` brings back what was there before."
    )
