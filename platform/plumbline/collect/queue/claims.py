"""Who is asked what next: one's open claim, training, a hidden test, or what the order brings.

Locks are taken in the order person, comparison, ballot; a claim waits for one comparison at a time
and holds no other then.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import mixing
from plumbline.collect.queue import gate, history, order, seats, training


def claim_next(user: User, campaign: Campaign) -> Ballot | None:
    """The ballot this person should fill in now, or None when there is nothing for them.

    Their own live claim comes first (the newest of several, after an undo); then training, for who
    has not passed; now and then a hidden test; else the comparison of highest priority with a free
    seat that they have not answered yet. `gate.why_not` says why somebody gets nothing.
    """
    history.prepare(campaign)
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
                    if theirs.votes is None:  # after the comparison, as a vote does it
                        history.count_votes(Enrolment.objects.filter(pk=theirs.pk))
                    return ballot
            tried.append(comparison.pk)  # the last seat went while we waited
    return None


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
    return order.find(user, campaign, theirs, tried, wait)


def _locked(comparisons: QuerySet[Comparison], wait: bool) -> Comparison | None:
    return comparisons.select_for_update(of=("self",), skip_locked=not wait).first()


def _has_seat(comparison: Comparison, campaign: Campaign) -> bool:
    comparison.campaign = campaign
    return seats.free_seat(comparison) is not None


def _take_seat(user: User, comparison: Comparison, campaign: Campaign) -> Ballot | None:
    comparison.campaign = campaign
    seat = seats.free_seat(comparison)
    if seat is None:
        return None
    before = comparison.ballots.filter(annotator=user).order_by("-revision").first()
    sides = mixing.order(comparison)
    return history.open_claim(user, comparison, seat, after=before, order=sides)
