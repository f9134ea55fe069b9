"""Constitutions: principles as rows, and what they are kept against when a judge is made.

A version holds the principles as they were. Editing one changes no version; the judge's next
revision takes them as they are then.
"""

from __future__ import annotations

import math

from django.db import IntegrityError, transaction

from plumbline.accounts.models import Project
from plumbline.judges import judges, kind
from plumbline.judges.models import Constitution, Judge, Principle

LONGEST = 2000  # characters of a principle


def add(project: Project, name: str) -> Constitution:
    """Raises ValueError for a name that is none or taken."""
    name = name.strip()
    if not name:
        raise ValueError("A constitution needs a name.")
    try:
        with transaction.atomic():
            return Constitution.objects.create(project=project, name=name[:80])
    except IntegrityError as error:
        raise ValueError(f"There is a constitution called {name} already.") from error


def state(constitution: Constitution, text: str, weight: float = 1.0) -> Principle:
    """A further principle. Raises ValueError for one without words or with a weight that is
    none."""
    return Principle.objects.create(
        constitution=constitution, text=_worded(text), weight=_weighed(weight)
    )


def change(principle: Principle, text: str, weight: float, *, active: bool) -> None:
    """Raises ValueError as `state` does."""
    principle.text, principle.weight = _worded(text), _weighed(weight)
    principle.active = active
    principle.save(update_fields=["text", "weight", "active"])


def shares(constitution: Constitution) -> dict[int, float]:
    """How much each active principle counts, by its id; they sum to 1."""
    active = [one for one in constitution.principles.all() if one.active]
    total = sum(one.weight for one in active)
    return {one.pk: one.weight / total for one in active}


def outdated(constitution: Constitution) -> list[Judge]:
    """Judges whose current version holds the principles otherwise than they stand now."""
    try:
        here = kind.principles(constitution)
    except ValueError:
        here = []
    found = Judge.objects.filter(project=constitution.project, retired_at=None)
    return [
        judge
        for judge in found
        if (frozen := judges.current(judge).settings).get("constitution") == constitution.pk
        and frozen["principles"] != here
    ]


def _worded(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("A principle needs words.")
    if len(text) > LONGEST:
        raise ValueError(f"A principle has {LONGEST} characters at most.")
    return text


def _weighed(weight: float) -> float:
    if not (math.isfinite(weight) and 0 < weight <= 1000):
        raise ValueError("A weight is above 0 and at most 1000.")
    return weight
