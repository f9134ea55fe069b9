"""`manage.py runloop`: look at every round each TICK_SECONDS and do the next thing, until SIGTERM.

Also brings back what the aliases need when an engine has restarted, unloads what nobody needs any
more, makes the mixtures that clients asked for, watches what aliases are guarded by, and has files
imported, in a process of their own.
Holds nothing in memory that counts, so it may be killed and started at any time.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections
from django.utils.module_loading import import_string

from plumbline.loop import advance, mixtures, rounds
from plumbline.policies import serving
from plumbline.transfer.porter import Porter

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
RECONCILE_SECONDS = 2.0


class Command(BaseCommand):
    help = "Drive all rounds until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        pause = float(settings.TICK_SECONDS)
        engine, porter = Engine(), Porter()
        others = [import_string(name)() for name in settings.LOOP_ALSO]
        while not stopping.wait(pause):
            close_old_connections()
            try:
                engine.look()
                porter.look()
                advance.tick()
                mixtures.advance()
                for other in others:
                    other.look()
            except Exception:  # the loop must outlive whatever one round does to it
                log.exception("this tick failed; the next one is in %g s", 2 * pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            else:
                pause = float(settings.TICK_SECONDS)
        porter.stop()


class Engine:
    """Whether the engines serve what they should and nothing else, asked now and then; each change
    is logged once."""

    def __init__(self) -> None:
        self._next = 0.0
        self._trouble = ""

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        trouble = ""
        try:
            loaded = serving.reconcile()
        except serving.EngineError as error:
            trouble = str(error)
        else:
            if loaded:
                log.info("the engine is back with %s", ", ".join(loaded))
            trouble = self._retire()
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble
        self._next = time.monotonic() + RECONCILE_SECONDS

    def _retire(self) -> str:
        """Unload what neither aliases nor rounds need; what went wrong."""
        try:
            gone = serving.retire(keep=rounds.working_policies())
        except serving.EngineLent:
            return ""
        except serving.EngineError as error:
            return str(error)
        if gone:
            log.info("the engine no longer holds %s", ", ".join(gone))
        return ""
