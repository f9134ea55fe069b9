"""What a person has filled in and not sent, kept by the server until the ballot is cast."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from plumbline.collect.models import Ballot, Draft
from plumbline.collect.queue.verdicts import AlreadyCast

LONGEST = 500_000  # characters of JSON: nine long answers corrected


def save_draft(ballot: Ballot, fields: Mapping[str, Any]) -> Draft:
    """Keep the form's fields by their names, over what was kept before.

    Raises AlreadyCast for a ballot that is answered, and ValueError for fields too long to keep.
    """
    if len(json.dumps(fields)) > LONGEST:
        raise ValueError("This is too long to be kept as a draft.")
    with transaction.atomic():
        locked = Ballot.objects.select_for_update(no_key=True).get(pk=ballot.pk)
        if locked.outcome:
            raise AlreadyCast("You have already answered this comparison.")
        return Draft.objects.update_or_create(ballot=locked, defaults={"fields": dict(fields)})[0]


def draft(ballot: Ballot) -> dict[str, Any]:
    """What was filled in so far; empty where nothing was."""
    kept = Draft.objects.filter(ballot=ballot).values_list("fields", flat=True).first()
    return dict(kept) if kept else {}
