"""`manage.py export_round ID`: a round as a tar, or its figures in a store of another tool."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from plumbline.audit.record import record
from plumbline.loop import folder, tracking
from plumbline.loop.models import Round


class Command(BaseCommand):
    help = "Write a round's folder as a tar, or its figures for MLflow or Weights & Biases."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("round", type=int, metavar="ID")
        parser.add_argument("--out", type=Path, help="a new .tar file; else the round's name")
        parser.add_argument("--store", choices=sorted(tracking.STORES), help="instead of a tar")
        parser.add_argument("--to", type=Path, default=Path("figures"), help="the store's folder")

    def handle(self, *args: Any, **options: Any) -> None:
        found = Round.objects.select_related("experiment__project", "experiment__start")
        round = found.filter(pk=options["round"]).first()
        if round is None:
            raise CommandError(f"there is no round {options['round']}")
        try:
            if options["store"]:
                count = tracking.send(round, options["store"], options["to"])
                self.stdout.write(f"{count} figures in {options['to']}")
                return
            self._write(round, options["out"] or Path(f"{folder.name(round)}.tar"))
        except ValueError as error:
            raise CommandError(str(error)) from error

    def _write(self, round: Round, out: Path) -> None:
        """Aside first, so that nobody takes half a file for a whole one."""
        if out.exists():
            raise CommandError(f"{out} exists already")
        aside = out.with_name(f".{out.name}.tmp")
        try:
            with aside.open("wb") as file:
                file.writelines(folder.tar(round))
            record("export.downloaded", round, project=round.experiment.project_id, format="folder")
            aside.rename(out)
        finally:
            aside.unlink(missing_ok=True)
        self.stdout.write(str(out))
