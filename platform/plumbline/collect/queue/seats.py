"""Seats: how many people a comparison still wants, and who holds a place.

A seat (0, 1, ...) is held by a live claim or a standing vote and the database keeps seats unique,
so overlap is never exceeded; a lapsed claim's seat is taken back when somebody needs it. Leases are
given and ended by the database's clock: those of the web's hosts may differ. Whatever changes seats
holds the comparison's lock and leaves `Comparison.full` true.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import (
    BooleanField,
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    Max,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now
from django.db.models.lookups import GreaterThanOrEqual, LessThan

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import settings
from plumbline.collect.quality.planting import EVERYBODY
from plumbline.collect.votes import VOTES, in_doubt
from plumbline.compiled import Compiled, Given, Prepared, Step, given_id, together

LAPSED = ExpressionWrapper(
    Q(outcome="", expires_at__lte=Now()), output_field=BooleanField()
)  # of a ballot: its claim ran out
FOR_ALL = (Comparison.Kind.GOLD, Comparison.Kind.TRAINING)  # wanted of all who come by

_PERSON = Compiled(
    lambda: (
        User.objects.select_for_update(no_key=True)
        .only("pk")
        .filter(pk=given_id("user"))
        .annotate(now=Now())
    )
)
_COMPARISON = Compiled(
    lambda: (
        Comparison.objects.select_for_update(of=("self",))
        .select_related("campaign")
        .filter(pk=given_id("comparison"))
    )
)
# Of one person, and of all who hold a seat.
BALLOTS = Compiled(
    lambda: (
        Ballot.objects.filter(
            Q(seat__isnull=False) | Q(annotator=given_id("user")), comparison=given_id("comparison")
        )
        .order_by("revision")
        .annotate(lapsed=LAPSED)
    )
)


def lock_person(user: User) -> datetime:
    """One claim or undo of a person at a time, so that two tabs do not get two comparisons. Returns
    the time by the database's clock."""
    now, _ = lock_person_and(user)
    return now


def lock_person_and(user: User, *steps: Step) -> tuple[datetime, list[list[Any]]]:
    """`lock_person`, and what is asked once the lock is held."""
    locked, *found = together((_PERSON, {"user": user.pk}), *steps)
    if not locked:
        raise User.DoesNotExist
    return locked[0].now, found


def lock_comparison(pk: int) -> Comparison:
    """Locked and fresh, with its campaign."""
    locked = _COMPARISON.first(comparison=pk)
    if locked is None:
        raise Comparison.DoesNotExist
    return locked


# In SQL, as every vote does it; the overlap is read then, not when the lock was asked for.
RECOUNT = Prepared.named(
    """
UPDATE collect_comparison SET "full" = (
    SELECT count(*) FROM collect_ballot AS b WHERE b.comparison_id = collect_comparison.id
        AND b.seat IS NOT NULL AND b.outcome IN ('ranked', 'all_bad', 'absolute')
) >= COALESCE(overlap, (SELECT c.overlap FROM collect_campaign AS c WHERE c.id = campaign_id))
OR %(looked_at)s AND EXISTS (
    SELECT 1 FROM collect_flag AS f JOIN collect_ballot AS b ON b.id = f.ballot_id
        WHERE b.comparison_id = collect_comparison.id AND f.resolved_at IS NULL
)
WHERE id = %(comparison)s
""",
    Given("looked_at", BooleanField()),
    given_id("comparison"),
)


def wanted(comparison: Comparison) -> int:
    """People wanted on a comparison: its own number, everybody, or the campaign's."""
    if comparison.overlap is not None:
        return comparison.overlap
    return EVERYBODY if comparison.kind in FOR_ALL else comparison.campaign.overlap


def wanted_in(campaign: Combinable) -> Case:
    """`wanted` for the database, given the campaign's overlap."""
    return Case(
        When(overlap__isnull=False, then=F("overlap")),
        When(kind__in=FOR_ALL, then=Value(EVERYBODY)),
        default=campaign,
        output_field=IntegerField(),
    )


def free_seat(comparison: Comparison) -> int | None:
    """The lowest free seat of a locked comparison, taking back those of claims that ran out."""
    held = comparison.ballots.filter(seat__isnull=False).order_by()
    people = wanted(comparison)
    if people >= EVERYBODY:  # there may be very many, and none is given twice
        highest: int | None = held.aggregate(highest=Max("seat"))["highest"]
        following = 0 if highest is None else highest + 1
        return following if following < people else None
    return _lowest(held.annotate(lapsed=LAPSED), people)


def free_seat_for(
    user: User, comparison: Comparison, there: list[Any] | None = None
) -> tuple[int | None, Ballot | None]:
    """`free_seat`, and the person's newest ballot there, of a locked comparison. `there`: what
    `BALLOTS` finds, if it was asked since the lock."""
    if wanted(comparison) >= EVERYBODY:
        own = comparison.ballots.filter(annotator=user).order_by("-revision").first()
        return free_seat(comparison), own
    if there is None:
        there = BALLOTS.all(comparison=comparison.pk, user=user.pk)
    own = next((one for one in reversed(there) if one.annotator_id == user.pk), None)
    held = [one for one in there if one.seat is not None]
    return _lowest(held, wanted(comparison)), own


def _lowest(held: Iterable[Any], people: int) -> int | None:
    """The lowest seat below `people` that none of these ballots holds; those that are `lapsed` lose
    theirs."""
    lapsed, taken = [], set()
    for one in held:
        if one.lapsed:
            lapsed.append(one.pk)
        else:
            taken.add(one.seat)
    if lapsed:
        Ballot.objects.filter(pk__in=lapsed).update(seat=None)
    if len(taken) >= people:  # some may sit above a number that was lowered
        return None
    return next(seat for seat in range(people) if seat not in taken)


def count(ballots: QuerySet[Ballot]) -> Coalesce:
    """How many ballots a comparison's subquery finds, 0 for none. Counted, so that the database
    looks them up for each comparison in turn instead of joining all there are."""
    per_comparison = ballots.order_by().values("comparison").annotate(n=Count("pk"))
    return Coalesce(Subquery(per_comparison.values("n")), 0)


def taken() -> Coalesce:
    """Seats held by votes and live claims, of the comparison of the outer query."""
    held = Ballot.objects.filter(comparison=OuterRef("pk"), seat__isnull=False)
    return count(held.filter(~Q(outcome="") | Q(expires_at__gt=Now())))


def _filled() -> Coalesce:
    """Seats held by votes."""
    held = Ballot.objects.filter(comparison=OuterRef("pk"), seat__isnull=False)
    return count(held.filter(outcome__in=VOTES))


def waits_for_a_look(campaign: Campaign) -> bool:
    """Whether what somebody flagged is asked of nobody else until a researcher has looked."""
    return not settings.of(campaign).ask_flagged


def recount(comparison: Comparison) -> None:
    """Write `full` as the seats have it now. For a locked comparison, after its ballots."""
    together(*recounting(comparison))


def recounting(comparison: Comparison) -> list[Step]:
    """`recount`, to be run with others, after them."""
    if wanted(comparison) >= EVERYBODY:
        return []
    waits = waits_for_a_look(comparison.campaign)
    return [(RECOUNT, {"looked_at": waits, "comparison": comparison.pk})]


def recount_flagged(campaign: Campaign) -> None:
    """After a change of whether flagged comparisons are asked of others."""
    for pk in campaign.comparisons.filter(in_doubt()).order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            recount(lock_comparison(pk))


def set_overlap(comparison: Comparison, people: int | None) -> None:
    """Ask so many people about a comparison, at any time; None asks as many as its campaign does.

    More than before asks further people; fewer takes no vote away. Raises ValueError below 1.
    """
    if people is not None and not 1 <= people <= EVERYBODY:
        raise ValueError("At least one person is asked about a comparison.")
    with transaction.atomic():
        locked = lock_comparison(comparison.pk)
        locked.overlap = comparison.overlap = people
        if wanted(locked) >= EVERYBODY:
            locked.full = False
        locked.save(update_fields=["overlap", "full"])
        recount(locked)


def settle(campaign: Campaign) -> bool:
    """Work out `full` anew where the campaign's overlap has changed since; whether it had.

    Before anything that decides by `full`, in a transaction of its own: it locks many comparisons,
    and whoever holds one of those waits for no other.
    """
    if campaign.overlap_applied == campaign.overlap:
        return False
    with transaction.atomic():
        fresh = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
        if fresh.overlap_applied != fresh.overlap:
            here = Comparison.objects.filter(campaign=fresh)
            people = wanted_in(Value(fresh.overlap))
            wanting = here.filter(LessThan(_filled(), people), full=True)
            if waits_for_a_look(fresh):
                wanting = wanting.filter(~in_doubt())
            wanting.update(full=False)
            voted = Ballot.objects.filter(comparison=OuterRef("pk"), seat__isnull=False)
            here.filter(Exists(voted), GreaterThanOrEqual(_filled(), people), full=False).update(
                full=True
            )
            _enrol_voters(fresh)
            Campaign.objects.filter(pk=fresh.pk).update(overlap_applied=fresh.overlap)
    campaign.overlap, campaign.overlap_applied = fresh.overlap, fresh.overlap
    return True


def _enrol_voters(campaign: Campaign) -> None:
    """A place for everybody who has voted, however their votes came here, with their number."""
    said = Ballot.objects.filter(comparison__campaign=campaign).exclude(outcome="").order_by()
    known = Enrolment.objects.filter(campaign=campaign).values("user")
    missing = said.exclude(annotator__in=known).values_list("annotator", flat=True).distinct()
    Enrolment.objects.bulk_create(
        (Enrolment(campaign=campaign, user_id=person) for person in missing), ignore_conflicts=True
    )
