"""A campaign's settings through time: every change writes a version, and none is ever edited.

`change` is the only way in which pages change a campaign, so that the number a ballot is stamped
with always says what its voter was told and asked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.audit.record import record
from plumbline.collect import asking
from plumbline.collect.live import settings as live
from plumbline.collect.models import Campaign, CampaignVersion
from plumbline.collect.queue import seats, stale

# What a version holds, in the words that pages use.
SETTINGS = {
    "name": "Name",
    "purpose": "Purpose",
    "guidelines": "Guidelines",
    "examples": "Examples",
    "asks": "What people are asked",
    "criteria": "Criteria",
    "reasons": "Reasons to choose from",
    "warning": "Content warning",
    "word_counts": "Word counts shown",
    "review": "Review before saving",
    "overlap": "People per comparison",
    "lease_seconds": "Seconds on one comparison",
    "stale_days": "Days a comparison is asked for",
    "hourly_rate": "Hourly rate",
    "invited_only": "Invited people only",
    "deadline": "Deadline",
    "training_pass": "Training passed at",
    "live": "Live answers",
    "quality": "Quality",
    "paused_at": "Paused",
    "closed_at": "Closed",
}
Op = Literal["same", "gone", "new"]
CONTEXT = 2  # unchanged lines around a change


@dataclass(frozen=True)
class Piece:
    op: Op
    text: str


@dataclass(frozen=True)
class Change:
    """One setting that differs: as a text with its pieces, or as a value before and after."""

    label: str
    before: str = ""
    after: str = ""
    pieces: tuple[Piece, ...] = ()


def create(campaign: Campaign, author: User) -> Campaign:
    """Store a new campaign with its first version."""
    with transaction.atomic():
        campaign.save()
        CampaignVersion.objects.create(
            campaign=campaign, number=1, settings=snapshot(campaign), author=author
        )
        record("campaign.opened", campaign, project=campaign.project_id, actor=author)
    return campaign


def change(
    campaign: Campaign, values: Mapping[str, Any], author: User, what: str = "campaign.changed"
) -> CampaignVersion | None:
    """Change settings and write the version that says so; None when nothing differs.

    A raised or lowered overlap reaches the comparisons at once; changed days to ask for them begin
    now. `campaign` is brought up to date.
    """
    assert values.keys() <= SETTINGS.keys()
    with transaction.atomic():
        row = Campaign.objects.select_for_update().get(pk=campaign.pk)
        before = snapshot(row)
        for name, value in values.items():
            setattr(row, name, value)
        if snapshot(row) == before:
            return None
        # Campaigns that a round or an import opened have no version until their first change.
        CampaignVersion.objects.get_or_create(
            campaign=row, number=row.settings_version, defaults={"settings": before}
        )
        row.settings_version += 1
        row.save(update_fields=[*values, "settings_version"])
        version = CampaignVersion.objects.create(
            campaign=row, number=row.settings_version, settings=snapshot(row), author=author
        )
        told = {"version": row.settings_version, "changed": sorted(values)}
        record(what, row, project=row.project_id, actor=author, **told)
    campaign.refresh_from_db()
    seats.settle(campaign)  # a changed overlap reaches the comparisons
    if campaign.stale_days != before["stale_days"]:
        stale.begin_anew(campaign)
    seats.recount_flagged(campaign)
    return version


def snapshot(campaign: Campaign) -> dict[str, Any]:
    """The settings as JSON."""
    return {name: _plain(getattr(campaign, name)) for name in SETTINGS}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What differs between two snapshots, in the order of the form."""
    found = []
    for name, label in SETTINGS.items():
        old, new = before.get(name), after.get(name)
        if old == new or (name not in before and not new):  # a setting that came later
            continue
        if name in ("guidelines", "examples"):
            texts = (_text(old), _text(new))
            found.append(Change(label, pieces=tuple(pieces(*texts))))
        elif name == "quality":
            found += _parts(old or {}, new or {})
        else:
            found.append(Change(label, _words(name, old), _words(name, new)))
    return found


def pieces(before: str, after: str) -> Iterator[Piece]:
    """The text with what is gone and what is new, word by word; long unchanged parts are cut."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from _by_word("".join(old[i:j]), "".join(new[k:m]))
        elif j - i > 2 * CONTEXT + 1:
            head = "" if i == 0 else "".join(old[i : i + CONTEXT])
            tail = "" if j == len(old) else "".join(old[j - CONTEXT : j])
            yield Piece("same", f"{head}⋯\n{tail}")
        else:
            yield Piece("same", "".join(old[i:j]))


def _by_word(before: str, after: str) -> Iterator[Piece]:
    old, new = re.findall(r"\s+|[^\s]+", before), re.findall(r"\s+|[^\s]+", after)
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield Piece("same", "".join(old[i:j]))
            continue
        if j > i:
            yield Piece("gone", "".join(old[i:j]))
        if m > k:
            yield Piece("new", "".join(new[k:m]))


def _parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """A quality setting for each that differs; one that is not given has its default."""
    names = sorted(before.keys() | after.keys())
    return [
        Change(f"Quality: {name.replace('_', ' ')}", _value(before, name), _value(after, name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _value(values: Mapping[str, Any], name: str) -> str:
    return _words(name, values[name]) if name in values else "the default"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value.quantize(Decimal("0.01"))) if isinstance(value, Decimal) else value


def _text(value: Any) -> str:
    """Guidelines as they are; examples as lines."""
    if isinstance(value, str):
        return value
    rows = value or []
    return "\n".join(f"{key}: {text}" for row in rows for key, text in row.items() if text)


def _words(name: str, value: Any) -> str:
    """A setting's value as people read it."""
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    match name:
        case "asks":
            return "; ".join(asking.ASKS.get(ask, ask) for ask in value)
        case "criteria":
            return "; ".join(f"{row['name']} {row['least']}–{row['most']}" for row in value)
        case "live":
            return live.words(value)
        case "reasons":
            return "; ".join(value)
        case "deadline" | "paused_at" | "closed_at":
            return f"{timezone.localtime(datetime.fromisoformat(value)):%-d %B %Y, %H:%M}"
        case "stale_days":
            return f"{value}" if value else "for good"
        case "training_pass":
            return f"{value} %"
        case "purpose":
            return Campaign.Purpose(value).label
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)
