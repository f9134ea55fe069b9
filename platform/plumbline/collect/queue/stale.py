"""What is still asked: comparisons go stale after their campaign's days, and may be brought back.

An answer of a policy that has moved on teaches less than a new one's. A campaign's days hold for
what is put before people from then on; changed days begin anew for what waits. Votes on what has
gone stale stay; nothing is deleted here.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from plumbline.collect.models import Campaign, Comparison
from plumbline.collect.queue import order
from plumbline.collect.votes import counted


def goes_stale_at(campaign: Campaign) -> datetime | None:
    """When a comparison put before people now is not asked any more; None: never."""
    days = campaign.stale_days
    return timezone.now() + timedelta(days=days) if days else None


def expired(campaign: Campaign) -> QuerySet[Comparison]:
    """Asked in earnest, gone stale before as many people as were wanted had answered."""
    here = counted(Comparison.objects.filter(campaign=campaign))
    return here.filter(gone(), retired_at__isnull=True)


def gone() -> Q:
    """Stale, with votes missing."""
    return Q(full=False, expires_at__isnull=False, expires_at__lte=Now())


def bring_back(campaign: Campaign) -> int:
    """Ask what has gone stale again, for the campaign's days; how many comparisons.

    Raises ValueError for a campaign that is closed.
    """
    if campaign.closed_at is not None:
        raise ValueError("This campaign is closed; reopen it before asking anything again.")
    return expired(campaign).update(expires_at=goes_stale_at(campaign))


def begin_anew(campaign: Campaign) -> int:
    """Give what still waits the campaign's days from now on; how many comparisons."""
    return order.wanting(campaign).update(expires_at=goes_stale_at(campaign))
