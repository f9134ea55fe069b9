"""Which comparison is next for a person, as the database finds it.

A claim looks at the head of the campaign's order first, which nearly always holds something for
whoever comes. Somebody who has answered more than that of what still wants votes goes on from where
they last were (`Enrolment.cursor_*`) instead of passing by it all again; when nothing is left
there, or now and then, they begin at the top, so that what has come free behind them is found.
The search is written in SQL, because it is most of what a claim costs; `unanswered` says the same.
It is planned anew each time, for the campaign it is about: a plan for any campaign can be very bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Now
from django.db.models.lookups import LessThan
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import REPLIES, Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality.planting import EVERYBODY
from plumbline.collect.queue import seats
from plumbline.collect.votes import counted
from plumbline.compiled import Compiled, Step, given_id, together

WITHDRAWN = Ballot.Outcome.WITHDRAWN.value
HEAD = 64  # comparisons at the top of the order that every claim looks at
CURSOR_LASTS = timedelta(minutes=10)  # then one begins at the top again

# Of everybody, and wanting votes yet: the condition of the index `comparisons_wanting`, and more.
WANTING = """
    c.campaign_id = %(campaign)s AND NOT c."full" AND c.retired_at IS NULL
    AND c.only_for_id IS NULL AND c.kind IN ('ordinary', 'live')
    AND (c.expires_at IS NULL OR c.expires_at > %(now)s)
"""
# `annotator_id + 0`: ballots are looked up by comparison, never by a person who may have very many.
FIND = f"""
SELECT c.id, COALESCE(c.overlap, %(overlap)s) FROM collect_comparison AS c
WHERE {WANTING} AND {{where}}
    AND (SELECT count(*) FROM collect_ballot AS b WHERE b.comparison_id = c.id
        AND b.seat IS NOT NULL AND (b.outcome <> '' OR b.expires_at > %(now)s)
    ) < COALESCE(c.overlap, %(overlap)s)
    AND COALESCE((SELECT b.outcome FROM collect_ballot AS b WHERE b.comparison_id = c.id
        AND b.annotator_id + 0 = %(user)s AND b.outcome <> '' ORDER BY b.revision DESC LIMIT 1
    ), 'withdrawn') = 'withdrawn'
ORDER BY c.priority DESC, c.id LIMIT 1 {{lock}}
"""
AT_THE_HEAD = f"""c.id IN (
    SELECT c.id FROM collect_comparison AS c WHERE {WANTING}
    ORDER BY c.priority DESC, c.id LIMIT %(head)s
)"""
# What comes after the cursor, as two ranges of one index.
FROM_CURSOR = ("c.priority = %(priority)s AND c.id > %(number)s", "c.priority < %(priority)s")
ANYWHERE = "true"
_LOCKED = Compiled(
    lambda: Comparison.objects.select_related("prompt").filter(pk=given_id("comparison"))
)


def wanting(campaign: Campaign) -> QuerySet[Comparison]:
    """What is asked of everybody and may want votes yet; `full` says nothing where the campaign's
    overlap has just been changed."""
    fresh = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    here = counted(Comparison.objects.filter(fresh, campaign=campaign)).filter(
        retired_at__isnull=True, only_for__isnull=True
    )
    return here.filter(full=False) if campaign.overlap_applied == campaign.overlap else here


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
        .filter(LessThan(seats.taken(), people), word=WITHDRAWN)
    )


def find(
    user: User, campaign: Campaign, theirs: Any, tried: Sequence[int], wait: bool
) -> tuple[Comparison | None, list[Ballot] | None]:
    """The next comparison, locked, and the ballots there that decide on a seat, but where very many
    may hold one. Without `wait` those that somebody has locked are left out; with it their locks
    are waited for, and the seat may be gone then. `tried` ones are left out. `theirs` is the
    person's place with `now`, by the database's clock."""
    now = connection.ops.adapt_datetimefield_value(theirs.now)
    values = {"user": user.pk, "campaign": campaign.pk, "overlap": campaign.overlap, "now": now}
    lock = ""
    if connection.features.has_select_for_update:
        lock = "FOR UPDATE OF c" if wait else "FOR UPDATE OF c SKIP LOCKED"

    there: list[Ballot] | None = None

    def first(where: str, **more: Any) -> Comparison | None:
        nonlocal there
        if tried:
            where += f" AND c.id NOT IN ({', '.join(str(int(pk)) for pk in tried)})"
        with connection.cursor() as cursor:
            cursor.execute(FIND.format(where=where, lock=lock), {**values, **more})
            row = cursor.fetchone()
        if row is None:
            return None
        found, there = _read(user, *row)
        return found

    if not wait:
        found = first(AT_THE_HEAD, head=HEAD)
        if found is not None:
            return found, there
        if _holds(theirs, theirs.now):
            number, priority = theirs.cursor_comparison, theirs.cursor_priority
            for where in FROM_CURSOR:
                found = first(where, number=number, priority=priority)
                if found is not None:
                    _move(theirs, found, from_the_top=False)
                    return found, there
    found = first(ANYWHERE)
    if found is not None and not wait:
        _move(theirs, found, from_the_top=True)
    return found, there


def _read(user: User, pk: int, people: int) -> tuple[Comparison, list[Ballot] | None]:
    """A locked comparison, with all that a claim and the page after it read of it."""
    steps: list[Step] = [(_LOCKED, {"comparison": pk}), (REPLIES, {"comparison": pk})]
    if people < EVERYBODY:
        steps.append((seats.BALLOTS, {"comparison": pk, "user": user.pk}))
    (found,), replies, *there = together(*steps)
    found.replies = replies
    return found, there[0] if there else None


def from_cursor(
    comparisons: QuerySet[Comparison], theirs: Enrolment
) -> Iterator[QuerySet[Comparison]]:
    """What comes after the person's cursor, if they have one."""
    number, priority = theirs.cursor_comparison, theirs.cursor_priority
    if priority is not None and _holds(theirs, timezone.now()):
        yield comparisons.filter(priority=priority, pk__gt=number)
        yield comparisons.filter(priority__lt=priority)


def _holds(theirs: Enrolment, now: datetime) -> bool:
    since = theirs.cursor_at
    return since is not None and since > now - CURSOR_LASTS


def _move(theirs: Any, found: Comparison, *, from_the_top: bool) -> None:
    theirs.cursor_priority, theirs.cursor_comparison = found.priority, found.pk
    if from_the_top:
        theirs.cursor_at = theirs.now
    theirs.save(update_fields=["cursor_priority", "cursor_comparison", "cursor_at"])
