"""How fast a campaign's votes come in, who is at it, when it will be done, and what it costs.

New at every look; in a large campaign, what every vote is read for is read once (`counts.grown`).
Cost is people's active time (idle time left out, as their browsers measured it) at the campaign's
hourly rate; simulated raters and AI judges cost nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncHour
from django.utils import timezone

from plumbline.accounts.models import Membership, User
from plumbline.collect import counts, queue, votes
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
    recent = standing.filter(cast_at__gt=now - PACE).count()
    if campaign.overlap_applied is not None and counts.large(campaign):
        said, people = counts.by_people(campaign)
    else:
        found = standing.aggregate(votes=Count("pk"), people=Count("annotator", distinct=True))
        said, people = found["votes"], found["people"]
    paid = counts.grown(campaign, "paid", lambda after, until: _paid(campaign, after, until))
    wanted = counts.wanted(campaign)
    hours = paid["ms"] / 3_600_000
    pace = recent / (PACE.total_seconds() / 3600)
    left = max(0, wanted - said)
    cost = None if campaign.hourly_rate is None else campaign.hourly_rate * Decimal(hours)
    measured = paid["measured"]
    return Throughput(
        votes=said,
        wanted=wanted,
        expired=counts.expired(campaign),
        people=people,
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
    here = Ballot.objects.filter(comparison__campaign=campaign).order_by()
    members = Membership.objects.filter(project=campaign.project_id).values("user")
    # Apart, so that each is an index's: answers by their time, open claims by their person.
    answered = here.filter(cast_at__gt=now - NOW)
    reading = here.filter(annotator__in=members, cast_at=None, claimed_at__gt=now - NOW)
    found = [one.values_list("annotator", flat=True).distinct() for one in (answered, reading)]
    return len({person for people in found for person in people})


def chart(campaign: Campaign, now: datetime) -> tuple[Bar, ...]:
    """Votes of each of the last hours, oldest first; none where there were no votes at all."""
    last = now.replace(minute=0, second=0, microsecond=0)
    first = last - timedelta(hours=HOURS - 1)
    known = counts.grown(campaign, "hours", lambda after, until: _hours(campaign, after, until))
    hours = [first + timedelta(hours=n) for n in range(HOURS)]
    found = [known.get(at.isoformat(), 0) for at in hours]
    if not any(found):
        return ()
    most, step = max(found), WIDTH / HOURS
    bars = []
    for n, (at, count) in enumerate(zip(hours, found, strict=True)):
        height = round(HEIGHT * count / most, 1)
        x = round(n * step + 1, 2)
        bars.append(Bar(at, count, x, HEIGHT - height, step - 2, height))
    return tuple(bars)


def _cast(campaign: Campaign, after: datetime | None, until: datetime) -> QuerySet[Ballot]:
    """Votes of a time, revised since or not."""
    cast = Ballot.objects.filter(
        comparison__campaign=campaign, outcome__in=votes.VOTES, cast_at__lte=until
    )
    return (cast if after is None else cast.filter(cast_at__gt=after)).order_by()


def _paid(campaign: Campaign, after: datetime | None, until: datetime) -> Mapping[str, int]:
    """The active time of people's votes, and of how many it is known."""
    cast = _cast(campaign, after, until).filter(annotator__kind=User.Kind.PERSON)
    return cast.aggregate(
        ms=Coalesce(Sum("active_ms"), 0),
        measured=Count("pk", filter=Q(active_ms__isnull=False)),
        unmeasured=Count("pk", filter=Q(active_ms__isnull=True)),
    )


def _hours(campaign: Campaign, after: datetime | None, until: datetime) -> Mapping[str, int]:
    """Votes by the hour they were cast in, of the latest hours at first."""
    first = after or until - timedelta(hours=HOURS + 1)
    rows = _cast(campaign, first, until).annotate(hour=TruncHour("cast_at")).values("hour")
    return {row["hour"].isoformat(): row["n"] for row in rows.annotate(n=Count("pk"))}
