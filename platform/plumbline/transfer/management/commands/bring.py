"""`manage.py bring UPLOAD`: what an upload's row asks for; started by `runloop`, never by hand."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand

from plumbline.transfer.bringing import work
from plumbline.transfer.models import Upload


class Command(BaseCommand):
    help = "Check, import or undo a file that a researcher gave to the page."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("upload", type=UUID)

    def handle(self, *args: Any, **options: Any) -> None:
        upload = Upload.objects.select_related("project").filter(pk=options["upload"]).first()
        if upload is not None:  # else it was dropped meanwhile
            work(upload)
