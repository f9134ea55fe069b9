"""Writing an entry, in the transaction of what it tells of.

`record` is the last thing a transaction does where that can be chosen: from then on other writers
of entries wait until it ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.models.functions import Now

from plumbline.audit import seals
from plumbline.audit.models import AuditEntry, AuditHead

SYSTEM = "system"  # the loop, a command, a worker
NOBODY = "nobody"  # a request of somebody who is not signed in

_acting: ContextVar[str] = ContextVar("acting", default=SYSTEM)


@contextmanager
def acting(who: str) -> Iterator[None]:
    """Entries inside are of `who` unless they name somebody: "user:5", "key:3", NOBODY."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def become(who: str) -> None:
    """As `acting`, for the rest of what runs inside one."""
    _acting.set(who)


def record(
    what: str,
    thing: Model | None = None,
    *,
    project: Model | int | None = None,
    actor: Model | None = None,
    **details: Any,
) -> AuditEntry:
    """Add an entry: `what` was done to `thing` by `actor`, else by who is acting.

    `details` are values of JSON and hold no secret and no text that people wrote about people:
    entries are never deleted.
    """
    entry = AuditEntry(
        who=f"user:{actor.pk}" if actor is not None else _acting.get(),
        what=what,
        project=project.pk if isinstance(project, Model) else project,
        object=f"{thing._meta.model_name}:{thing.pk}" if thing is not None else "",
        details=json.dumps(details, sort_keys=True, default=str),
    )
    with transaction.atomic(savepoint=False):
        head = _take_head()
        entry.number, entry.previous = head.number + 1, head.seal or seals.FIRST
        entry.at = _now()
        entry.key, key = seals.current()
        entry.seal = seals.seal(entry, key)
        entry.save(force_insert=True)
        AuditHead.objects.filter(pk=head.pk).update(number=entry.number, seal=entry.seal)
    return entry


def _take_head() -> AuditHead:
    """The head, locked until this transaction ends; SQLite's writers come one by one anyway."""
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    if head is None:
        last = AuditEntry.objects.order_by("-number").first()
        number, seal = (last.number, last.seal) if last is not None else (0, "")
        AuditHead.objects.get_or_create(pk=1, defaults={"number": number, "seal": seal})
        head = AuditHead.objects.select_for_update().get(pk=1)
    return head


def _now() -> datetime:
    """The database's clock, asked once it is this entry's turn."""
    return AuditHead.objects.annotate(now=Now()).values_list("now", flat=True).get(pk=1)
