"""`manage.py export FORMAT --project SLUG`: votes out, as JSON lines, in bounded memory.

The rows go to --out or to standard output; how many, and what was left out and why, to standard
error.
"""

from __future__ import annotations

import gzip
from argparse import ArgumentParser, BooleanOptionalAction
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from plumbline.accounts.models import Project
from plumbline.audit.record import record
from plumbline.transfer import formats
from plumbline.transfer.options import Options
from plumbline.transfer.outgoing import Export, Selection
from plumbline.transfer.stream import lines


class Command(BaseCommand):
    help = "Write the votes of a project in a format that trainers read."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("format", help=", ".join(formats.exporters()))
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument(
            "--campaign", type=int, action="append", default=[], metavar="ID", help="else all"
        )
        parser.add_argument(
            "--round", type=int, metavar="ID", help="exactly the votes this round trained on"
        )
        parser.add_argument("--out", type=Path, help="a new file, gzipped when it ends in .gz")
        for one in fields(Options):
            about = f"{one.metadata['label']}. {one.metadata['help']}".strip()
            if "choices" in one.metadata:
                choices = list(one.metadata["choices"])
                parser.add_argument(
                    f"--{one.name}", choices=choices, default=one.default, help=about
                )
            else:
                parser.add_argument(
                    f"--{one.name}", action=BooleanOptionalAction, default=one.default, help=about
                )

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"there is no project {options['project']!r}")
        try:
            format = formats.exporter(options["format"])
            chosen = Options(**{one.name: options[one.name] for one in fields(Options)})
            chosen.check(format.TAKES, format.TIES, options["format"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        campaigns = options["campaign"]
        known = project.campaigns.filter(pk__in=campaigns).values_list("pk", flat=True)
        if missing := set(campaigns) - set(known):
            raise CommandError(f"{project} has no campaign {min(missing)}")
        export = Export(Selection(project, tuple(campaigns), options["round"]), chosen)
        rows = 0
        record("export.downloaded", project=project, format=options["format"])
        with self._out(options["out"]) as out:
            for line in lines(export, format):
                out.write(line)
                rows += 1
        self.stderr.write(f"{rows} rows from {export.seen} comparisons")
        for reason, count in export.left.most_common():
            self.stderr.write(f"left out: {count} {reason}")

    def _out(self, path: Path | None) -> Any:
        if path is None:
            return nullcontext(self.stdout)
        if path.exists():
            raise CommandError(f"{path} exists already")
        if path.suffix == ".gz":
            return gzip.open(path, "wt", encoding="utf-8", newline="\n")
        return path.open("w", encoding="utf-8", newline="\n")
