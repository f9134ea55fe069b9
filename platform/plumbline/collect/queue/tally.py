"""How many votes a campaign has of those it wants: one count for all pages and for the terminal.

Each comparison's own number of people counts. What was retired is left out; what has gone stale
wants no more votes than it has.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, Count, F, IntegerField, OuterRef, Sum, When
from django.db.models.functions import Coalesce

from plumbline.collect.models import Ballot, Campaign
from plumbline.collect.queue import seats, stale
from plumbline.collect.votes import VOTES, counted


@dataclass(frozen=True)
class Tally:
    votes: int  # that hold a seat
    wanted: int


def tally(campaign: Campaign) -> Tally:
    asked = counted(campaign.comparisons.order_by()).filter(retired_at__isnull=True)
    wanted = asked.aggregate(n=Sum(people_wanted(campaign)))["n"] or 0
    held = Ballot.objects.filter(comparison__in=asked, seat__isnull=False, outcome__in=VOTES)
    return Tally(held.aggregate(n=Count("pk"))["n"], wanted)


def people_wanted(campaign: Campaign) -> Case:
    """People wanted on a comparison asked in earnest, for the database."""
    held = Ballot.objects.filter(comparison=OuterRef("pk"), seat__isnull=False, outcome__in=VOTES)
    return Case(
        When(stale.gone(), then=seats.count(held)),
        default=Coalesce(F("overlap"), campaign.overlap),
        output_field=IntegerField(),
    )
