"""How fast a campaign's votes come in, who is at it, when it will be done, and what it costs.

Counted anew on every look. Cost is people's active time (idle time left out, as their browsers
measured it) at the campaign's hourly rate; simulated raters and AI judges cost nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect import queue, votes
from plumbline.collect.models import Ballot, Campaign

NOW = timedelta(minutes=5)  # who did something in it is here now
PACE = timedelta(hours=1)  # what the present pace is counted over
HOURS = 48  # of the chart
WIDTH, HEIGHT = 720, 120  # of the chart, in its own units


@dataclass(frozen=True)
class Bar:
    """An hour of the chart and where it is drawn."""

    at: datetime
    votes: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Throughput:
    votes: int  # that stand, on comparisons asked in earnest
    wanted: int
    expired: int  # comparisons that went stale before they had their votes
    people: int  # who voted
    now: int  # who are at it
    pace: float  # votes an hour, over the last hour
    active_hours: float  # of people
    per_active_hour: float | None  # votes of one person in an hour of their active time
    unmeasured: int  # votes of people whose time is not known
    finish: datetime | None
    cost: Decimal | None
    cost_per_vote: Decimal | None
    bars: tuple[Bar, ...]

    @property
    def left(self) -> int:
        return max(0, self.wanted - self.votes)

    @property
    def most(self) -> int:
        return max((bar.votes for bar in self.bars), default=0)


def of(campaign: Campaign) -> Throughput:
    now = timezone.now()
    asked = votes.counted(campaign.comparisons.filter(retired_at=None))
    standing = queue.standing(asked)
    cast = Ballot.objects.filter(comparison__campaign=campaign, outcome__in=votes.VOTES)
    by_people = cast.filter(annotator__kind=User.Kind.PERSON)
    counted = standing.aggregate(
        votes=Count("pk"),
        people=Count("annotator", distinct=True),
        recent=Count("pk", filter=Q(cast_at__gt=now - PACE)),
    )
    paid = by_people.aggregate(
        ms=Sum("active_ms"),
        measured=Count("pk", filter=Q(active_ms__isnull=False)),
        unmeasured=Count("pk", filter=Q(active_ms__isnull=True)),
    )
    wanted = queue.tally(campaign).wanted
    hours = (paid["ms"] or 0) / 3_600_000
    pace = counted["recent"] / (PACE.total_seconds() / 3600)
    left = max(0, wanted - counted["votes"])
    cost = None if campaign.hourly_rate is None else campaign.hourly_rate * Decimal(hours)
    measured = paid["measured"]
    return Throughput(
        votes=counted["votes"],
        wanted=wanted,
        expired=queue.expired(campaign).count(),
        people=counted["people"],
        now=here_now(campaign, now),
        pace=pace,
        active_hours=hours,
        per_active_hour=measured / hours if hours else None,
        unmeasured=paid["unmeasured"],
        finish=now + timedelta(hours=left / pace) if left and pace else None,
        cost=cost,
        cost_per_vote=cost / measured if cost is not None and measured else None,
        bars=chart(campaign, now),
    )


def here_now(campaign: Campaign, now: datetime) -> int:
    """People who took or answered a comparison in the last minutes."""
    recent = Q(claimed_at__gt=now - NOW) | Q(cast_at__gt=now - NOW)
    here = Ballot.objects.filter(recent, comparison__campaign=campaign)
    return here.order_by().values("annotator").distinct().count()


def chart(campaign: Campaign, now: datetime) -> tuple[Bar, ...]:
    """Votes of each of the last hours, oldest first; none where there were no votes at all."""
    last = now.replace(minute=0, second=0, microsecond=0)
    first = last - timedelta(hours=HOURS - 1)
    said = Ballot.objects.filter(
        comparison__campaign=campaign, outcome__in=votes.VOTES, cast_at__gte=first
    )
    rows = said.order_by().annotate(hour=TruncHour("cast_at")).values("hour")
    found = {row["hour"]: row["n"] for row in rows.annotate(n=Count("pk"))}
    if not found:
        return ()
    most, step = max(found.values()), WIDTH / HOURS
    bars = []
    for n in range(HOURS):
        at = first + timedelta(hours=n)
        count = found.get(at, 0)
        height = round(HEIGHT * count / most, 1)
        x = round(n * step + 1, 2)
        bars.append(Bar(at, count, x, HEIGHT - height, step - 2, height))
    return tuple(bars)
