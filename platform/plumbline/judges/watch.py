"""What judges' jobs said is stored when they have ended, whoever looks first: the loop's process,
or somebody who opens a page."""

from __future__ import annotations

import logging
import time

from django.db import transaction

from plumbline.fleet.models import Job
from plumbline.judges import asking, casting, endpoints, revising
from plumbline.judges.models import Asking, JudgeVersion, Revising

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds
AFTER_TROUBLE = 30.0


class Watch:
    """For the loop's process: looks at ended jobs now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        trouble = settle()
        endpoints.learn()
        self._next = time.monotonic() + (AFTER_TROUBLE if trouble else EVERY)


def settle(version: JudgeVersion | None = None) -> int:
    """Gather every ended job that is not gathered, of one version or all, and cast its ballots; how
    many could not be stored, which is logged and tried again at the next look."""
    done = Job.State.SUCCEEDED
    askings = Asking.objects.filter(gathered_at=None, job__state=done)
    revisings = Revising.objects.filter(gathered_at=None, job__state=done)
    if version is not None:
        askings, revisings = askings.filter(version=version), revisings.filter(version=version)
    trouble = 0
    for one in askings.select_related("job", "version__judge", "campaign"):
        trouble += not _safely(one)
    for two in revisings.select_related("job"):
        trouble += not _safely(two)
    return trouble


def finish(one: Asking) -> None:
    """Store an asking's verdicts and cast its ballots."""
    with transaction.atomic():  # or a death in between would leave ballots uncast for good
        asking.gather(one.version, one.job)
        if one.campaign is not None:
            casting.cast(one.version, casting.open_pairs(one.campaign))


def _safely(one: Asking | Revising) -> bool:
    try:
        if isinstance(one, Asking):
            finish(one)
        else:
            revising.gather(one)
    except (OSError, ValueError, KeyError) as error:
        log.error("%s: what it said could not be stored: %s", one.job, error)
        return False
    return True
