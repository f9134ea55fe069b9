"""`manage.py backup DIR`: the database and the files that its rows name, while everything runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.operations import archive, backup


class Command(BaseCommand):
    help = "Write a backup to a new folder; nothing has to be stopped for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="a folder that is not there yet")
        parser.add_argument(
            "--with-secret-key",
            action="store_true",
            help="put the secret key in too: whoever reads the backup can then sign in as anybody",
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        target = options["folder"].absolute()
        try:
            made = backup.make(target, with_secret_key=options["with_secret_key"])
        except archive.Refused as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"folder": str(target), **asdict(made)}))
            return
        self.stdout.write(
            f"{target}: {made.files} files, {made.bytes / 2**20:.1f} MiB, in {made.seconds:.1f} s."
        )
        if options["with_secret_key"]:
            self.stdout.write(
                "THE SECRET KEY IS IN IT. Whoever reads this backup can sign in as anybody: keep "
                "it as you keep passwords."
            )
        else:
            self.stdout.write(
                "The secret key is not in it. Keep SECRET_KEY elsewhere: without it all API keys "
                "and sessions of a restored backup are void."
            )
        for path in made.elsewhere:
            self.stdout.write(f"Not in it, as it lies outside PLUMBLINE_HOME: {path}")
