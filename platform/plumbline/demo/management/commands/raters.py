"""`manage.py raters`: simulated raters vote in every open campaign until SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, close_old_connections

from plumbline.collect import queue
from plumbline.demo.raters import vote_once

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0


class Command(BaseCommand):
    help = "Let the simulated raters vote."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--pause", type=float, default=0.0, help="seconds each rater takes for a vote"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        while not stopping.is_set():
            close_old_connections()
            try:
                cast = vote_once()
            except (OperationalError, queue.Refused) as error:
                log.warning("a vote did not count, on to the next: %s", error)
                cast = 0
            stopping.wait(options["pause"] if cast else IDLE_SECONDS)
