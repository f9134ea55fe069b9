"""Votes as rows of the database, and exports of them as Python objects."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Comparison
from plumbline.transfer import formats, stream
from plumbline.transfer.options import Options
from plumbline.transfer.outgoing import Export, Selection


def say(
    comparison: Comparison, person: User, ranking: list[list[int]] | None = None, **fields: Any
) -> Ballot:
    """A cast ballot: a ranking, or with none what `outcome` says."""
    slots = [slot.slot for slot in comparison.slots.all()]
    now = timezone.now()
    values: dict[str, Any] = {
        "outcome": "ranked" if ranking else "all_bad",
        "ranking": ranking or [],
        "shown": slots[::-1],
        "claimed_at": now - timedelta(seconds=30),
        "expires_at": now,
        "cast_at": now,
        "idempotency_key": uuid4(),
        **fields,
    }
    return Ballot.objects.create(comparison=comparison, annotator=person, **values)


def exporting(project: Project, **options: Any) -> Export:
    selection = {name: options.pop(name) for name in ("campaigns", "round") if name in options}
    return Export(Selection(project, **selection), Options(**options))


def exported(project: Project, name: str, **options: Any) -> list[dict[str, Any]]:
    """The rows of an export, read back from its lines."""
    export = exporting(project, **options)
    text = "".join(stream.lines(export, formats.exporter(name)))
    # str.splitlines knows more line ends than "\n"; so do some readers.
    return [json.loads(line) for line in text.splitlines()]


def left_out(project: Project, name: str, **options: Any) -> dict[str, int]:
    export = exporting(project, **options)
    for _ in stream.rows(export, formats.exporter(name)):
        pass
    return dict(export.left)
