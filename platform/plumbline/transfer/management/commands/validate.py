"""`manage.py validate FORMAT PATH`: is the file what a trainer expects, and if not, where?

Names the line and the field of every problem; exits with 1 when there is one.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from plumbline.transfer import formats
from plumbline.transfer.stream import validate


class Command(BaseCommand):
    help = "Check a file of JSON lines, plain or gzipped, against a format."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("format", help=", ".join(formats.names()))
        parser.add_argument("path", type=Path)
        parser.add_argument("--most", type=int, default=100, help="problems to show")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["path"]
        if not path.is_file():
            raise CommandError(f"{path} is not a file")
        try:
            format = formats.find(options["format"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        found = validate(path, format, options["most"])
        for number, problem in found.problems:
            self.stdout.write(f"line {number}: {problem}")
        if found.wrong or not found.lines:
            raise CommandError(f"{found.wrong} of {found.lines} lines are not {options['format']}")
        self.stdout.write(f"{found.lines} lines, all of them {options['format']}")
