"""`manage.py audit`: whether the audit is whole, what it tells, and a copy of it elsewhere."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from plumbline.audit import checking
from plumbline.audit.models import AuditEntry

SHOWN = 20


def moment(text: str) -> datetime:
    """2026-11-23, 2026-11-23T10:00, or "7d", "12h" before now."""
    units = {"d": "days", "h": "hours", "m": "minutes"}
    if text[:-1].isdigit() and text[-1] in units:
        return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text} is no time: give 2026-11-23, 7d or 12h") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = "Check that the audit is whole; show it, or keep a copy of it elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--print", action="store_true", help="show the entries too")
        parser.add_argument("--since", type=moment, help="show those from then on: 2026-11-23, 7d")
        parser.add_argument("--json", action="store_true", help="show them as JSON, one a line")
        parser.add_argument(
            "--copy",
            type=Path,
            metavar="FILE",
            help="compare FILE with the entries and add those it lacks; keep it on another machine",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["print"] or options["since"] or options["json"]:
            self._show(options["since"], options["json"])
        found = 0
        for found, fault in enumerate(checking.faults(), 1):
            if found <= SHOWN:
                self.stderr.write(str(fault))
        if found:
            raise CommandError(f"The audit is not what was written: {found} faults.")
        if options["copy"]:
            self._copy(options["copy"])
        count = AuditEntry.objects.count()
        self.stderr.write(f"The audit is whole: {count} entries.")

    def _show(self, since: datetime | None, as_json: bool) -> None:
        entries: QuerySet[AuditEntry] = AuditEntry.objects.order_by("number")
        if since is not None:
            entries = entries.filter(at__gte=since)
        for entry in entries.iterator(checking.CHUNK):
            if as_json:
                self.stdout.write(json.dumps(checking.line(entry)))
            else:
                self.stdout.write(f"{entry.at:%Y-%m-%d %H:%M:%S} {entry} {entry.details}")

    def _copy(self, path: Path) -> None:
        try:
            added = checking.copy(path)
        except checking.CopyDiffers as differs:
            raise CommandError(f"The copy {path} tells otherwise: {differs}.") from differs
        except OSError as error:
            raise CommandError(f"The copy {path} cannot be written: {error.strerror}.") from error
        self.stderr.write(f"{added} entries added to {path}.")
