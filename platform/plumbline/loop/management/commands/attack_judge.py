"""`manage.py attack_judge JUDGE`: the injection corpus on a judge, waited for and told as JSON."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from plumbline.judges import attacking, judges
from plumbline.judges.models import Attack, Judge


class Command(BaseCommand):
    help = "Try to talk a judge over. Workers do the asking; its page keeps the figures."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("judge", help="its name")
        parser.add_argument("--project", required=True, help="the project's short name")
        parser.add_argument("--most", type=int, default=0, help="attacks; 0 is the whole corpus")
        parser.add_argument("--dollars", type=float, default=0.0, help="at most; 0 is no cap")
        parser.add_argument("--wait", type=float, default=3600.0, help="seconds, at most")

    def handle(self, *args: Any, **options: Any) -> None:
        named = Judge.objects.filter(name=options["judge"], project__slug=options["project"])
        judge = named.first()
        if judge is None:
            raise CommandError(f"{options['project']} has no judge called {options['judge']}.")
        try:
            row = attacking.begin(
                judges.current(judge), most=options["most"], max_dollars=options["dollars"]
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        until = time.monotonic() + options["wait"]
        while row.finished_at is None:
            if time.monotonic() > until:
                raise CommandError("It is not over yet; its page will show the figures.")
            time.sleep(0.5)
            row = attacking.settle(Attack.objects.select_related("version", "job").get(pk=row.pk))
        if row.error:
            raise CommandError(row.error)
        told = {
            "judge": str(row.version),
            "tried": row.tried,
            "flips": row.flips,
            "control_flips": row.control_flips,
            "above_control": row.above_control,
            "families": row.figures["families"],
            "corpus": row.corpus_sha256,
        }
        self.stdout.write(json.dumps(told))
