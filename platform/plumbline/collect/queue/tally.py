"""How many votes a campaign has of those it wants: one count for all pages and for the terminal.

Each comparison's own number of people counts. What was retired is left out; what has gone stale
wants no more votes than it has.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, Count, F, IntegerField, OuterRef, QuerySet, Sum, When
from django.db.models.functions import Coalesce

from plumbline.collect.models import Ballot, Campaign, Comparison
from plumbline.collect.queue import seats, stale
from plumbline.collect.votes import VOTES, counted


@dataclass(frozen=True)
class Tally:
    votes: int  # that hold a seat
    wanted: int


def tally(campaign: Campaign) -> Tally:
    held = Ballot.objects.filter(
        comparison__in=_asked(campaign), seat__isnull=False, outcome__in=VOTES
    )
    return Tally(held.aggregate(n=Count("pk"))["n"], wanted(campaign))


def wanted(campaign: Campaign) -> int:
    """Votes that the campaign wants."""
    people: int | None = _asked(campaign).aggregate(n=Sum(people_wanted(campaign)))["n"]
    return people or 0


def people_wanted(campaign: Campaign) -> Case:
    """People wanted on a comparison asked in earnest, for the database."""
    held = Ballot.objects.filter(comparison=OuterRef("pk"), seat__isnull=False, outcome__in=VOTES)
    return Case(
        When(stale.gone(), then=seats.count(held)),
        default=Coalesce(F("overlap"), campaign.overlap),
        output_field=IntegerField(),
    )


def _asked(campaign: Campaign) -> QuerySet[Comparison]:
    return counted(campaign.comparisons.order_by()).filter(retired_at__isnull=True)
