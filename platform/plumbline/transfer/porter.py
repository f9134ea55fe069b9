"""Runs what uploads ask for, one at a time, each in a process of its own (`manage.py bring`).

Held by `runloop`. It remembers only its child, which dies with it; what is to be done is in the
database, so a loop that comes back goes on where the last one was. Files nobody comes back for go
after a week.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from align.tether import tethered
from plumbline.transfer import uploads
from plumbline.transfer.models import Upload

log = logging.getLogger(__name__)

KEPT = timedelta(days=7)


class Porter:
    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Begin with the next upload if none is in hand."""
        if self._child is not None:
            if (status := self._child.poll()) is None:
                return
            if status:
                log.warning("an import's process ended with exit status %d", status)
            self._child = None
        waiting = Upload.objects.filter(state__in=Upload.BUSY).order_by("changed_at").first()
        if waiting is not None:
            log.info("%s: %s", waiting.filename, waiting.get_state_display().lower())
            self._child = _begin(waiting)
        else:
            _sweep()

    def stop(self) -> None:
        """End the child; its transaction leaves nothing."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()


def _begin(upload: Upload) -> subprocess.Popen[bytes]:
    program = [sys.executable, str(Path(settings.ROOT) / "manage.py"), "bring", str(upload.pk)]
    source = Path(settings.ROOT)
    path = os.pathsep.join([str(source / "platform"), str(source / "workers")])
    return subprocess.Popen(
        tethered(*program, by=signal.SIGKILL),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "PLUMBLINE_HOME": str(settings.HOME)},
    )


def _sweep() -> None:
    """Forget files that were left waiting."""
    old = Upload.objects.filter(
        state__in=(Upload.State.CHECKED, Upload.State.FAILED),
        changed_at__lt=timezone.now() - KEPT,
    )
    for upload in old[:10]:
        uploads.drop(upload)
