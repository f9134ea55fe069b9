"""How many people are wanted on a comparison, changed while people vote.

A comparison has the campaign's overlap or one of its own. Votes that are there are never taken
back: a lower overlap only means that nobody more is asked.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Count

from plumbline.collect.models import Ballot, Campaign, Comparison

MOST = 100


def refit(campaign: Campaign) -> None:
    """After the campaign's overlap changed: which of its comparisons want more votes."""
    seated = Ballot.objects.filter(comparison__campaign=campaign, seat__isnull=False)
    enough = (
        seated.exclude(outcome="")
        .order_by()
        .values("comparison")
        .annotate(votes=Count("pk"))
        .filter(votes__gte=campaign.overlap)
        .values("comparison")
    )
    here = Comparison.objects.filter(campaign=campaign, overlap=None)
    here.filter(full=False, pk__in=enough).update(full=True)
    here.filter(full=True).exclude(pk__in=enough).update(full=False)


@transaction.atomic
def of_comparison(comparison: Comparison, wanted: int | None) -> None:
    """Give a comparison an overlap of its own, or (None) the campaign's again.

    Raises ValueError for a number that cannot be.
    """
    if wanted is not None and not 1 <= wanted <= MOST:
        raise ValueError(f"Between 1 and {MOST} people can be asked about a comparison.")
    row = Comparison.objects.select_for_update(of=("self",)).select_related("campaign")
    locked = row.get(pk=comparison.pk)
    if locked.kind not in (Comparison.Kind.ORDINARY, Comparison.Kind.LIVE):
        raise ValueError("Known, repeated and training comparisons are asked of whoever is due.")
    locked.overlap = wanted
    locked.full = cast(locked) >= (wanted or locked.campaign.overlap)
    locked.save(update_fields=["overlap", "full"])


def cast(comparison: Comparison) -> int:
    """Votes that hold a seat."""
    return comparison.ballots.filter(seat__isnull=False).exclude(outcome="").count()
