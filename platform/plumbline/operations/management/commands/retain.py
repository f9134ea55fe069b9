"""`manage.py retain`: what may go and how many bytes that is; with --delete it goes."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.operations import retention

MIB = 2**20


class Command(BaseCommand):
    help = "Say what is old and named by nothing; with --delete, remove it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=int, help="of runs and chats: what ended earlier is old (90)"
        )
        parser.add_argument(
            "--rounds",
            type=int,
            default=3,
            help="finished rounds of each experiment whose folders stay (3)",
        )
        parser.add_argument("--delete", action="store_true", help="remove it; else it is only said")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["days"]
        if options["rounds"] < 1 or (days is not None and days < 1):
            raise CommandError("A day and a round at least are kept.")
        try:
            ages = retention.ages(settings.RETAIN)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if days is not None:
            ages |= {"runs": days, "chats": days}
        rule = retention.Rule(ages, options["rounds"])
        found = retention.carry_out(rule) if options["delete"] else retention.plan(rule)
        if options["json"]:
            self.stdout.write(json.dumps(self._told(found, options["delete"])))
            return
        parts = {
            "run folders that nothing names": found.folders,
            "checkpoints of jobs that are over": found.checkpoints,
            "logs of jobs that are over": found.logs,
            "files of kept scores and replies": found.caches,
            "files that no row names": found.strays,
        }
        for words, paths in parts.items():
            self.stdout.write(f"{len(paths)} {words}, {sum(paths.values()) / MIB:.1f} MiB")
            if options["verbosity"] > 1:
                for path in paths:
                    self.stdout.write(f"    {path}")
        for name, count in found.rows.items():
            self.stdout.write(f"{count} rows of {name}")
        if options["delete"]:
            self.stdout.write(f"Removed, {found.bytes / MIB:.1f} MiB.")
        else:
            self.stdout.write(
                f"Nothing was removed. With --delete these {found.bytes / MIB:.1f} MiB go."
            )

    def _told(self, found: retention.Plan, deleted: bool) -> dict[str, Any]:
        names = ("folders", "checkpoints", "logs", "caches", "strays")
        paths = {name: [str(path) for path in getattr(found, name)] for name in names}
        return {"deleted": deleted, "bytes": found.bytes, **paths, "rows": found.rows}
