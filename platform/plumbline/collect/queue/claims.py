"""Who is asked what next.

A claim looks at the head of the campaign's order first, which nearly always holds something for
whoever comes. Somebody who has answered more than that of what still wants votes goes on from where
they last were (`Enrolment.cursor_*`) instead of passing by it all again; when nothing is left
there, or now and then, they begin at the top, so that what has come free behind them is found.
Locks are taken in the order person, comparison, ballot; a claim waits for one comparison at a time
and holds no other then.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import mixing
from plumbline.collect.queue import gate, history, seats, training
from plumbline.collect.votes import counted

WITHDRAWN = Ballot.Outcome.WITHDRAWN.value
HEAD = 64  # comparisons at the top of the order that every claim looks at
CURSOR_LASTS = timedelta(minutes=10)  # then one begins at the top again


def claim_next(user: User, campaign: Campaign) -> Ballot | None:
    """The ballot this person should fill in now, or None when there is nothing for them.

    Their own live claim comes first (the newest of several, after an undo); then training, for who
    has not passed; now and then a hidden test; else the comparison of highest priority with a free
    seat that they have not answered yet. `gate.why_not` says why somebody gets nothing.
    """
    seats.settle(campaign)
    tried: list[int] = []
    # First what nobody else is looking at; then wait for those being looked at. Each try is a
    # transaction of its own, so that nobody waits while holding what another waits for.
    for wait in (False, True):
        while True:
            with transaction.atomic():
                seats.lock_person(user)
                theirs = gate.place(user, campaign)
                if gate.turned_away(campaign, theirs):
                    return None
                mine = history.live_claims(user, campaign).first()
                if mine is not None or gate.shut(campaign):
                    return mine
                theirs = theirs or gate.join(user, campaign)
                comparison = _choose(user, campaign, theirs, tried, wait)
                if comparison is None:
                    break
                ballot = _take_seat(user, comparison, campaign)
                if ballot is not None:
                    return ballot
            tried.append(comparison.pk)  # the last seat went while we waited
    return None


def wanting(campaign: Campaign) -> QuerySet[Comparison]:
    """What is asked of everybody and wants votes yet."""
    now = timezone.now()
    fresh = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    here = Comparison.objects.filter(
        fresh, campaign=campaign, full=False, retired_at__isnull=True, only_for__isnull=True
    )
    return counted(here)


def unanswered(user: User, campaign: Campaign) -> QuerySet[Comparison]:
    """What this person could still answer: it has a free seat, and their last word on it, if they
    had one, was to take back what they said."""
    words = (
        Ballot.objects.alias(person=F("annotator_id") + 0)  # look them up by comparison, always:
        .filter(comparison=OuterRef("pk"), person=user.pk)  # a person may have very many
        .exclude(outcome="")
        .order_by("-revision")
        .values("outcome")[:1]
    )
    people = seats.wanted_in(Value(campaign.overlap))
    return (
        wanting(campaign)
        .alias(word=Coalesce(Subquery(words), Value(WITHDRAWN)))
        .filter(LessThan(seats.taken(timezone.now()), people), word=WITHDRAWN)
    )


def _choose(
    user: User, campaign: Campaign, theirs: Enrolment, tried: list[int], wait: bool
) -> Comparison | None:
    """A locked comparison for this person, which may have lost its seat while we waited."""
    if theirs.trained_at is None and training.of_campaign(campaign).exists():
        return _locked(training.left_for(user, campaign).exclude(pk__in=tried), wait)
    if not wait and not tried:
        test = mixing.special(user, campaign)
        if test is not None:
            found = _locked(Comparison.objects.filter(pk=test.pk), wait=True)
            if found is not None and _has_seat(found, campaign):
                return found
    return _ordinary(user, campaign, theirs, tried, wait)


def _ordinary(
    user: User, campaign: Campaign, theirs: Enrolment, tried: list[int], wait: bool
) -> Comparison | None:
    everything = unanswered(user, campaign).exclude(pk__in=tried).order_by("-priority", "id")
    if wait:
        return _locked(everything, wait)
    head = wanting(campaign).order_by("-priority", "id").values("pk")[:HEAD]
    found = _locked(everything.filter(pk__in=head), wait)
    if found is not None:
        return found
    for further in from_cursor(everything, theirs):
        found = _locked(further, wait)
        if found is not None:
            _move_cursor(theirs, found, from_the_top=False)
            return found
    found = _locked(everything, wait)
    if found is not None:
        _move_cursor(theirs, found, from_the_top=True)
    return found


def _locked(comparisons: QuerySet[Comparison], wait: bool) -> Comparison | None:
    return comparisons.select_for_update(of=("self",), skip_locked=not wait).first()


def from_cursor(
    everything: QuerySet[Comparison], theirs: Enrolment
) -> Iterator[QuerySet[Comparison]]:
    """What comes after the person's cursor: two ranges of one index."""
    at, number, since = theirs.cursor_priority, theirs.cursor_comparison, theirs.cursor_at
    if at is None or since is None or since < timezone.now() - CURSOR_LASTS:
        return
    yield everything.filter(priority=at, pk__gt=number)
    yield everything.filter(priority__lt=at)


def _move_cursor(theirs: Enrolment, found: Comparison, *, from_the_top: bool) -> None:
    theirs.cursor_priority, theirs.cursor_comparison = found.priority, found.pk
    if from_the_top:
        theirs.cursor_at = timezone.now()
    theirs.save(update_fields=["cursor_priority", "cursor_comparison", "cursor_at"])


def _has_seat(comparison: Comparison, campaign: Campaign) -> bool:
    comparison.campaign = campaign
    return seats.free_seat(comparison) is not None


def _take_seat(user: User, comparison: Comparison, campaign: Campaign) -> Ballot | None:
    comparison.campaign = campaign
    seat = seats.free_seat(comparison)
    if seat is None:
        return None
    before = comparison.ballots.filter(annotator=user).order_by("-revision").first()
    order = mixing.order(comparison)
    return history.open_claim(user, comparison, seat, after=before, order=order)
