"""How much there is in a campaign, for researchers' pages: exact where it is small.

Of a large one, votes are summed by person, as the queue keeps them; what was cast and is never
edited is counted once, and at each look only what has come since; the rest once a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from django.core.cache import cache
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Comparison

LARGE = 10_000  # comparisons
SECONDS = 60  # that counts of a larger campaign are kept
STORED_WITHIN = timedelta(minutes=1)  # a vote is in the database so long after its `cast_at`
T = TypeVar("T")


def large(campaign: Campaign) -> bool:
    return campaign.comparisons.order_by()[: LARGE + 1].count() > LARGE


def kept(campaign: Campaign, name: str, count: Callable[[], T]) -> T:
    """What `count` finds; of a large campaign what it found up to a minute ago."""
    if not large(campaign):
        return count()
    key = f"count:{name}:{campaign.pk}:{campaign.created_at.timestamp()}"
    found: T | None = cache.get(key)
    if found is None:
        found = count()
        cache.set(key, found, SECONDS)
    return found


def grown(
    campaign: Campaign,
    name: str,
    count: Callable[[datetime | None, datetime], Mapping[str, int]],
) -> Mapping[str, int]:
    """What `count(after, until)` finds of all time, where nothing it counts ever changes; in a
    large campaign only of the time since the last look."""
    now = timezone.now()
    if not large(campaign):
        return count(None, now)
    settled = now - STORED_WITHIN
    key = f"grown:{name}:{campaign.pk}:{campaign.created_at.timestamp()}"
    before: tuple[datetime | None, Counter[str]] = cache.get(key) or (None, Counter())
    until, found = before
    if until is None or until < settled:
        found = found + Counter(count(until, settled))
        until = settled
        cache.set(key, (until, found), None)
    return found + Counter(count(until, now))


def kinds(campaign: Campaign) -> dict[str, int]:
    """Comparisons by kind. All but ordinary ones have an index of their own."""

    def count() -> dict[str, int]:
        here = campaign.comparisons.order_by()
        special = here.exclude(kind=Comparison.Kind.ORDINARY).values("kind")
        found = {row["kind"]: row["n"] for row in special.annotate(n=Count("pk"))}
        ordinary = here.count() - sum(found.values())
        return {Comparison.Kind.ORDINARY.value: ordinary, **found} if ordinary else found

    return kept(campaign, "kinds", count)


def wanted(campaign: Campaign) -> int:
    return kept(campaign, "wanted", lambda: queue.wanted(campaign))


def expired(campaign: Campaign) -> int:
    return kept(campaign, "expired", lambda: queue.expired(campaign).count())


def tally(campaign: Campaign) -> queue.Tally:
    """`queue.tally`; of a large campaign from the counts that are kept."""
    if campaign.overlap_applied is None or not large(campaign):
        return queue.tally(campaign)
    return queue.Tally(by_people(campaign)[0], wanted(campaign))


def votes(campaign: Campaign) -> int:
    """Votes that stand; in a large campaign those asked in earnest."""
    if campaign.overlap_applied is None or not large(campaign):
        said = Ballot.objects.filter(comparison__campaign=campaign, seat__isnull=False)
        return said.exclude(outcome="").count()
    return by_people(campaign)[0]


def by_people(campaign: Campaign) -> tuple[int, int]:
    """Standing votes and who has any, as the queue keeps them."""
    places = campaign.enrolments.aggregate(
        people=Count("pk", filter=Q(votes__gt=0)), said=Coalesce(Sum("votes"), 0)
    )
    return places["said"], places["people"]
