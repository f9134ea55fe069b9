"""How many votes one person may give in a campaign within an hour and within a day.

A flood of one account's votes teaches what that account wants, so a campaign may cap them. Windows
slide: a vote counts for an hour, and for a day, from when it was cast, by the database's clock.
What counts is what stands, hidden tests among it; training does not count. A vote of one's own
may be revised at any time, and counts from then on.

The cap is asked before a claim, and again in the transaction of the vote. That holds the person's
place by then (`history.replaced`), so votes that are sent at once come one after the other.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison
from plumbline.collect.quality import settings
from plumbline.collect.queue.verdicts import Capped
from plumbline.collect.votes import VOTES

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def reached(user: User, campaign: Campaign) -> str:
    """That this person has given as many votes as the campaign takes for now, and when to come
    back, in a sentence; "" while they may go on. Asks nothing where there is no cap."""
    return _beyond(user.pk, campaign, 0)


def keep(ballot: Ballot) -> None:
    """Raises Capped where this vote, which is stored, is one more than the campaign takes."""
    if ballot.comparison.kind == Comparison.Kind.TRAINING:
        return
    if said := _beyond(ballot.annotator_id, ballot.comparison.campaign, 1):
        raise Capped(f"{said} This last one was not saved.")


def _beyond(user: int, campaign: Campaign, more: int) -> str:
    """`reached`, of a cap that is so many votes higher; by the later of the two windows."""
    quality, found = settings.of(campaign), []
    for window, cap, name in (
        (HOUR, quality.hourly_cap, "this hour’s"),
        (DAY, quality.daily_cap, "today’s"),
    ):
        since = _since(user, campaign, window, cap + more) if cap else None
        if since is not None:
            found.append((since + window, f"You have reached {name} number of votes, {cap}"))
    if not found:
        return ""
    until, said = max(found)
    return f"{said}. Thank you; come back at {_clock(until)}."


def _since(user: int, campaign: Campaign, window: timedelta, number: int) -> datetime | None:
    """When the person cast the `number`-th newest of their votes; None: before the window."""
    begun = ExpressionWrapper(Now() - window, output_field=DateTimeField())
    votes = Ballot.objects.filter(
        annotator=user,
        comparison__campaign=campaign,
        seat__isnull=False,
        outcome__in=VOTES,
        cast_at__gt=begun,
    ).exclude(comparison__kind=Comparison.Kind.TRAINING)
    newest = votes.order_by("-cast_at", "-claimed_at").values_list("cast_at", flat=True)
    return newest[number - 1 : number].first()


def _clock(at: datetime) -> str:
    """The minute by which it is so, on the server's clock on the wall; with the date if that is not
    today's."""
    local = timezone.localtime(at + timedelta(minutes=1))
    today = timezone.localdate() == local.date()
    return f"{local:%H:%M %Z}" if today else f"{local:%H:%M %Z on %-d %B}"
