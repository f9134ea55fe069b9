"""`manage.py import FORMAT PATH --project SLUG --set NAME`: real data in, all of it or nothing."""

from __future__ import annotations

import errno
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from plumbline.accounts.models import Project
from plumbline.transfer import formats
from plumbline.transfer.publish import Source, publish
from plumbline.transfer.staging import stage


class Command(BaseCommand):
    help = "Bring prompts, answers and preferences of a file into a project, all or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("format", help=", ".join(formats.names()))
        parser.add_argument("path", type=Path, help="JSON lines, plain or gzipped")
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--set", required=True, metavar="NAME", help="made if it is not there")
        parser.add_argument(
            "--split-heldout", type=float, default=0.1, help="share of prompts kept for evaluation"
        )
        parser.add_argument(
            "--campaign", default="", metavar="NAME", help="of the votes; else named after the set"
        )
        parser.add_argument("--limit", type=int, help="read only the first rows")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["path"]
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"there is no project {options['project']!r}")
        if not path.is_file():
            raise CommandError(f"{path} is not a file")
        if not 0 <= options["split_heldout"] < 1:
            raise CommandError("--split-heldout is a share, at least 0 and below 1")
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit must be at least 1")
        if not options["set"] or len(options["set"]) > 80:
            raise CommandError("--set must be a name of 1 to 80 characters")
        if len(options["campaign"]) > 120:
            raise CommandError("--campaign must be a name of at most 120 characters")
        share, campaign = options["split_heldout"], options["campaign"].strip()
        source = Source(options["format"], path.name, share, campaign=campaign)
        with _sentences():
            self._bring(path, source, project, options)

    def _bring(self, path: Path, source: Source, project: Project, options: dict[str, Any]) -> None:
        quiet = options["verbosity"] == 0 or None  # None: tqdm hides itself where no person looks
        format = formats.find(options["format"])
        size = path.stat().st_size
        with tqdm(desc="reading", total=size, unit="B", unit_scale=True, disable=quiet) as bar:
            staged = stage(path, format, options["limit"], bar.update)
        with staged, tqdm(desc="writing", total=len(staged), unit="row", disable=quiet) as bar:
            record, new = publish(staged, project, options["set"], source, format, bar.update)
            rows = f"{staged.rows} rows ({staged.duplicates} repeated)"
        if not new:
            self.stdout.write(
                f"{path.name}: the same rows were imported on {record.created_at:%Y-%m-%d %H:%M}; "
                "nothing to do"
            )
            return
        self.stdout.write(
            f"{path.name}: {rows}, new: {record.prompts} prompts, "
            f"{record.completions} answers, {record.ballots} ballots"
        )


@contextmanager
def _sentences() -> Iterator[None]:
    """What is wrong with a file, and a disk that is full, in words."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            said = "the disk is full; nothing was imported: make room, and import again"
            raise CommandError(said) from error
        raise
