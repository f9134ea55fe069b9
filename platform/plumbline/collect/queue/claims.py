"""Who is asked what next: one's open claim, training, a hidden test, or what the order brings.

Locks are taken in the order person, comparison, ballot; a claim waits for one comparison at a time
and holds no other then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from align import failpoints
from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import mixing
from plumbline.collect.queue import caps, gate, history, order, seats, training
from plumbline.compiled import Compiled, given_id

_USER, _CAMPAIGN = given_id("user"), given_id("campaign")
PLACE = Compiled(
    lambda: (
        Enrolment.objects.filter(campaign=_CAMPAIGN, user=_USER)
        .order_by()
        .annotate(
            open=Subquery(history.live_claims(_USER, _CAMPAIGN).values("pk")[:1]),
            # From when they came: who has said much elsewhere is not read through.
            last=Subquery(
                history.answers(_USER, _CAMPAIGN)
                .filter(cast_at__gte=OuterRef("joined_at"))
                .order_by("-cast_at", "-claimed_at")
                .values("pk")[:1]
            ),
            teaches=Exists(training.of_campaign(_CAMPAIGN)),
        )
    )
)


@dataclass(frozen=True)
class Claim:
    """A ballot to fill in, and what was read on the way to it."""

    ballot: Ballot
    place: Enrolment  # the person's, before the claim
    last: UUID | None  # their latest answer that nothing replaced, which `undo` would take back


def claim_next(user: User, campaign: Campaign) -> Ballot | None:
    """The ballot this person should fill in now, or None when there is nothing for them.

    Their own live claim comes first (the newest of several, after an undo); then training, for who
    has not passed; now and then a hidden test; else the comparison of highest priority with a free
    seat that they have not answered yet. `gate.why_not` says why somebody gets nothing.
    """
    found = claim(user, campaign)
    return found.ballot if isinstance(found, Claim) else found


def claim(user: User, campaign: Campaign) -> Claim | Ballot | None:
    """`claim_next`; a new claim comes with what was read on the way, an open one by itself."""
    history.prepare(campaign)
    tried: list[int] = []
    # First what nobody else is looking at; then wait for those being looked at. Each try is a
    # transaction of its own, so that nobody waits while holding what another waits for.
    for wait in (False, True):
        while True:
            with transaction.atomic():
                theirs = _lock_place(user, campaign)
                if gate.turned_away(campaign, theirs) or caps.reached(user, campaign):
                    return None
                if gate.shut(campaign) or (theirs is not None and theirs.open is not None):
                    mine = history.live_claims(user, campaign).first()
                    if mine is not None or gate.shut(campaign):
                        return mine
                    continue  # it has just run out
                if theirs is None:
                    gate.join(user, campaign)
                    continue
                comparison, there = _choose(user, campaign, theirs, tried, wait)
                if comparison is None:
                    break
                ballot = _take_seat(user, comparison, campaign, there, theirs.now)
                if ballot is not None:
                    if theirs.votes is None:  # after the comparison, as a vote does it
                        history.count_votes(Enrolment.objects.filter(pk=theirs.pk))
                    return Claim(ballot, theirs, theirs.last)
            tried.append(comparison.pk)  # the last seat went while we waited
    return None


def _lock_place(user: User, campaign: Campaign) -> Any:
    """The locked person's place, if they have one, with all that a claim asks of them, read at
    once: `open`, `last` and `teaches`; and `now`, by the database's clock."""
    asked = {"user": user.pk, "campaign": campaign.pk}
    now, (places,) = seats.lock_person_and(user, (PLACE, asked))
    if not places:
        return None
    places[0].now = now
    return places[0]


def _choose(
    user: User, campaign: Campaign, theirs: Any, tried: list[int], wait: bool
) -> tuple[Comparison | None, list[Ballot] | None]:
    """A locked comparison for this person, which may have lost its seat while we waited, and the
    ballots that say so, where they were read with it."""
    if theirs.trained_at is None and theirs.teaches:
        return _locked(training.left_for(user, campaign).exclude(pk__in=tried), wait), None
    if not wait and not tried and theirs.last is not None:
        test = mixing.after(theirs.last, user, campaign, since=theirs.joined_at)
        if test is not None:
            found = _locked(Comparison.objects.filter(pk=test.pk), wait=True)
            if found is not None and _has_seat(found, campaign):
                return found, None
    return order.find(user, campaign, theirs, tried, wait)


def _locked(comparisons: QuerySet[Comparison], wait: bool) -> Comparison | None:
    return comparisons.select_for_update(of=("self",), skip_locked=not wait).first()


def _has_seat(comparison: Comparison, campaign: Campaign) -> bool:
    comparison.campaign = campaign
    return seats.free_seat(comparison) is not None


def _take_seat(
    user: User,
    comparison: Comparison,
    campaign: Campaign,
    there: list[Ballot] | None,
    now: datetime,
) -> Ballot | None:
    comparison.campaign = campaign
    seat, before = seats.free_seat_for(user, comparison, there)
    if seat is None:
        return None
    sides = mixing.order(comparison)
    opened = history.open_claim(user, comparison, seat, now, after=before, order=sides)
    failpoints.reach("seat.taken")
    return opened
