"""`manage.py launch FILE`: launch the experiment of a settings file, as its download describes it.

Prints where it is. Ends with status 1 and a sentence for everything that is wrong with the file;
then nothing was launched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plumbline.accounts.models import Membership, Project, Role, User
from plumbline.loop import settings_file


class Command(BaseCommand):
    help = "Launch the experiment of a settings file, downloaded from a round's page."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", default="", help="its slug; else the file's own")
        parser.add_argument("--name", default="", help="of the experiment; else the file's own")
        parser.add_argument("--as", dest="user", default="", help="the researcher who launches it")
        parser.add_argument(
            "--anyway",
            action="store_true",
            help="also where prompts or weights of the same name are other ones",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        told = _read(options["file"])
        slug = options["project"] or str(told.get("project", ""))
        project = Project.objects.filter(slug=slug).first()
        if project is None:
            raise CommandError(f"There is no project called {slug!r}; name one with --project.")
        user = _researcher(project, options["user"])
        try:
            made = settings_file.launch(
                told, project, user, name=options["name"], anyway=options["anyway"]
            )
        except (settings_file.Refused, ValueError) as error:
            raise CommandError(f"Nothing was launched.\n{error}") from None
        self.stdout.write(
            f"{made.name} is under way: experiment {made.pk} of {project.slug}, round 1."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}.") from None
    if not isinstance(told, dict):
        raise CommandError(f"{path} is no settings file.")
    return told


def _researcher(project: Project, name: str) -> User:
    """Who launches: the one named, else the project's first researcher or admin."""
    able = Membership.objects.filter(project=project, role__in=(Role.RESEARCHER, Role.ADMIN))
    if name:
        able = able.filter(user__username=name)
    found = able.select_related("user").order_by("pk").first()
    if found is None:
        who = f"{name} is no researcher" if name else "Nobody is a researcher"
        raise CommandError(f"{who} of {project.slug}; name one with --as.")
    return found.user
