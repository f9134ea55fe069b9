"""`manage.py engine`: run an engine on this machine and keep it generating, until SIGTERM.

It is started again whatever it died of, and when it hangs; then it gets back from the database what
the aliases point at. Several engines are as many of these, each with a port of its own, and
ENGINE_URL names them all.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import close_old_connections

from align import keeper
from plumbline.fleet import engine
from plumbline.policies import engines, serving

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Run an engine and keep it generating until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.ENGINE_PORT)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            command = engine.command_line(options["port"])
        except engine.Missing as error:
            raise CommandError(str(error)) from error
        kept = keeper.Keeper(
            command,
            f"http://127.0.0.1:{options['port']}",
            settings.BASE_NAME,
            say=log.warning,
            back=_reconcile,
            patience=settings.ENGINE_SILENCE_SECONDS,
            environment={**os.environ, **engine.environment()},
        )
        between = min(keeper.LOOK_SECONDS, settings.ENGINE_SILENCE_SECONDS / 4)
        keeper.keep(kept, keeper.stop_on_signals(), between)


def _reconcile() -> None:
    """What fails here the loop tries again, for as long as it fails."""
    close_old_connections()
    try:
        if loaded := serving.reconcile():
            log.info("the engine has %s again", ", ".join(loaded))
    except (engines.EngineError, DatabaseError) as error:
        log.warning("not all is served again yet: %s", error)
