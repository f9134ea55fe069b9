"""How far a campaign is, for everybody and for one person.

Small campaigns are counted at each look. In large ones a person's own votes are still exact; what
everybody did is counted at most every few seconds, and what is left for somebody up to a bound
that nobody reaches in a day. Nothing is decided by these: `complete` looks for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.core.cache import cache
from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan
from django.utils import timezone

from plumbline.accounts.models import Membership, User
from plumbline.collect.models import Ballot, Campaign, Enrolment
from plumbline.collect.queue import claims, gate, history, seats, training
from plumbline.collect.votes import SAID, VOTES, counted, kept

SMALL = 250  # comparisons of a campaign that is counted at each look
SECONDS = 10  # that counts of a larger one are kept
MOST_LEFT = 1000  # of what is left for somebody, counted


@dataclass(frozen=True)
class Progress:
    mine: int  # my standing votes in the campaign, hidden tests and training apart
    votes: int  # everybody's
    wanted: int  # people wanted on each comparison, summed
    left: int  # comparisons I could still answer, open ones included; in large campaigns at most
    # MOST_LEFT


def progress(user: User, campaign: Campaign) -> Progress:
    theirs = gate.place(user, campaign)
    key = f"progress:{campaign.pk}:{campaign.created_at.timestamp()}"
    everybody: tuple[int, int] | None = cache.get(key)
    if everybody is not None:
        left_key = f"{key}:{user.pk}"
        left: int | None = cache.get(left_key)
        if left is None:
            left = _left(user, campaign, theirs, MOST_LEFT)
            cache.set(left_key, left, SECONDS)
    else:
        everybody = _everybody(campaign)
        if campaign.comparisons.order_by()[: SMALL + 1].count() > SMALL:
            cache.set(key, everybody, SECONDS)
        left = _left(user, campaign, theirs, MOST_LEFT)
    mine = 0 if theirs is None else _votes_of(theirs)
    return Progress(mine=mine, votes=everybody[0], wanted=everybody[1], left=left)


def complete(campaign: Campaign) -> bool:
    """Nothing more is to be expected: each comparison that is still asked has its votes, or all who
    could still vote have skipped it; or the deadline has passed."""
    if campaign.deadline is not None and campaign.deadline <= timezone.now():
        return True
    seats.settle(campaign)
    able = _able(campaign)
    people = max(1, able.count())  # a project nobody has joined yet waits for its first person
    latest = kept(
        Ballot.objects.filter(comparison=OuterRef("pk")).filter(~history.later_revision(said=True))
    )
    wanted = seats.wanted_in(F("campaign__overlap"))
    lacking = (
        claims.wanting(campaign)
        .annotate(
            votes=seats.count(latest.filter(outcome__in=VOTES)),
            answered=seats.count(
                latest.filter(outcome__in=SAID, annotator__in=able.values("user"))
            ),
        )
        .filter(LessThan(F("votes"), wanted), answered__lt=people)
    )
    return not lacking.exists()


def _able(campaign: Campaign) -> QuerySet[Membership]:
    """The members who may answer here."""
    here = Enrolment.objects.filter(campaign=campaign)
    out = here.filter(
        Q(paused_at__isnull=False) | Q(excluded_at__isnull=False) | Q(left_at__isnull=False)
    )
    members = Membership.objects.filter(project=campaign.project_id)
    if campaign.invited_only:
        members = members.filter(user__in=here.values("user"))
    return members.exclude(user__in=out.values("user"))


def _everybody(campaign: Campaign) -> tuple[int, int]:
    """Standing votes, and votes wanted."""
    asked = counted(campaign.comparisons.order_by())
    votes = kept(history.standing(asked)).order_by().aggregate(n=Count("pk"))["n"]
    wanted = asked.filter(retired_at__isnull=True).aggregate(
        n=Sum(Coalesce(F("overlap"), campaign.overlap))
    )["n"]
    return votes, wanted or 0


def _votes_of(theirs: Enrolment) -> int:
    """The person's standing votes in the campaign: counted once, then kept with every vote."""
    if theirs.votes is None:
        with transaction.atomic():
            locked = Enrolment.objects.select_for_update(no_key=True).get(pk=theirs.pk)
            asked = counted(locked.campaign.comparisons.all())
            mine = history.standing(asked).filter(annotator=locked.user_id)
            locked.votes = mine.order_by().aggregate(n=Count("pk"))["n"]
            locked.save(update_fields=["votes"])
        theirs.votes = locked.votes
    return theirs.votes or 0


def _left(user: User, campaign: Campaign, theirs: Enrolment | None, most: int) -> int:
    """What this person could still answer, from their cursor on, counted up to `most`."""
    if gate.turned_away(campaign, theirs):
        return 0
    open_ones = list(history.live_claims(user, campaign).values_list("comparison", flat=True))
    left = len(open_ones)
    if gate.shut(campaign):
        return left
    if theirs is None or theirs.trained_at is None:
        left += training.left_for(user, campaign).exclude(pk__in=open_ones).count()
        if gate.untrained(user, campaign, theirs):
            return left
    seats.settle(campaign)
    further = claims.unanswered(user, campaign).exclude(pk__in=open_ones)
    return left + further.order_by()[:most].count()
