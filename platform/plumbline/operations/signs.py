"""The loop's sign of life: written by the loop's own process, so it stops when that stops."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta

from django.db.models.functions import Now
from django.utils import timezone

from plumbline.operations.models import Sign

EVERY = 5.0  # seconds
SILENT = timedelta(seconds=90)  # the loop pauses up to a minute after a tick that failed
FORGOTTEN = timedelta(days=1)
LOOP = "loop"


class Watch:
    """What the loop's process looks at: that it lives."""

    def __init__(self) -> None:
        self._next = 0.0
        self._name = f"{LOOP}-{os.getpid()}@{socket.gethostname()}"[:120]

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        Sign.objects.update_or_create(
            name=self._name,
            defaults={"kind": LOOP, "seen_at": Now()},
            create_defaults={"kind": LOOP, "seen_at": Now(), "started_at": Now()},
        )
        Sign.objects.filter(seen_at__lt=timezone.now() - FORGOTTEN).delete()
        self._next = time.monotonic() + EVERY


def loops() -> list[Sign]:
    """Loops that live, the newest first."""
    return list(
        Sign.objects.filter(kind=LOOP, seen_at__gt=timezone.now() - SILENT).order_by("-seen_at")
    )
