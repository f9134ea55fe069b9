"""Saying something of a claimed comparison: a verdict, a skip, a flag.

Sent twice under one key it is stored once, whatever else the second says.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from align import failpoints
from plumbline.collect.models import Ballot, Comparison, Draft, Flag
from plumbline.collect.quality import gold
from plumbline.collect.queue import caps, history, seats, training
from plumbline.collect.queue.verdicts import AlreadyCast, ForeignKeyUsed, TooLate, Verdict, check
from plumbline.collect.votes import VOTES
from plumbline.compiled import Compiled, given_uuid, together

Outcome = Ballot.Outcome
SAID_FIELDS = (
    *("outcome", "ranking", "strength", "mark", "ratings", "corrections"),
    *("reasons", "reason", "comment"),
)
SAID_NOW = (*SAID_FIELDS, "spans", "seat", "cast_at", "idempotency_key", "active_ms")
MOST_ACTIVE_MS = 24 * 3600 * 1000  # a browser's clock is not to be trusted

# First the comparison, as everywhere, then the ballot.
_LOCKED = Compiled(
    lambda: (
        Ballot.objects.select_for_update(of=("comparison", "self"))
        .select_related("comparison__campaign")
        .filter(pk=given_uuid("ballot"))
        .order_by()
    )
)
# What may stand against an answer, or goes with it: its key, a later claim, a draft.
_BESIDE = Compiled(
    lambda: (
        Ballot.objects.filter(pk=given_uuid("ballot"))
        .order_by()
        .only("pk")
        .annotate(
            key_used=Exists(Ballot.objects.filter(idempotency_key=given_uuid("key"))),
            opened_since=history.later_revision(),
            drafted=Exists(Draft.objects.filter(ballot=OuterRef("pk"))),
            now=Now(),
        )
    )
)


def cast(ballot: Ballot, verdict: Verdict, key: UUID) -> Ballot:
    """Store a verdict. The same key again returns what is stored, whatever the verdict says.

    After the lease the vote still counts while its seat is free. Raises a `Refused` whose sentence
    says why not, and ValueError for a verdict that does not fit the comparison.
    """
    with transaction.atomic():
        ballot, comparison = _lock(ballot, key, votes=True)
        if ballot.idempotency_key == key:
            return ballot
        check(verdict, ballot)
        before = history.word_before(ballot)
        if before is not None and before.outcome in VOTES:  # a revision takes its seat over
            history.release(before)
            ballot.seat = before.seat
        elif ballot.seat is None:  # the lease ended and claiming by others took the seat back
            ballot.seat = seats.free_seat(comparison)
            if ballot.seat is None:
                raise TooLate(
                    "Your time on this comparison ran out and somebody else has it now. "
                    "Nothing was saved; here is the next one."
                )
        for name in SAID_FIELDS:
            setattr(ballot, name, getattr(verdict, name))
        ballot.spans = [asdict(span) for span in verdict.spans]
        _say(ballot, comparison, before, key, verdict.active_ms)
        if before is None or before.outcome not in VOTES:
            caps.keep(ballot)
        gold.review(ballot)
        return ballot


def skip(ballot: Ballot, reason: str, key: UUID) -> Ballot:
    """Give the seat back and say why. The person is not asked this comparison again."""
    return _decline(ballot, Outcome.SKIPPED, reason, key)


def flag(ballot: Ballot, reason: str, words: str, key: UUID) -> Ballot:
    """Call the comparison harmful or broken: a skip that a researcher looks into."""
    with transaction.atomic():
        ballot = _decline(ballot, Outcome.FLAGGED, reason, key)
        if ballot.outcome == Outcome.FLAGGED:  # the key may be of an answer sent before
            Flag.objects.get_or_create(
                ballot=ballot, defaults={"reason": reason[:300], "words": words}
            )
            seats.recount(ballot.comparison)  # nobody else is asked it until somebody has looked
        return ballot


def _decline(ballot: Ballot, outcome: Outcome, reason: str, key: UUID) -> Ballot:
    with transaction.atomic():
        ballot, comparison = _lock(ballot, key, votes=False)
        if ballot.idempotency_key == key:
            return ballot
        before = history.word_before(ballot)
        if before is not None:
            history.release(before)
        ballot.outcome, ballot.reason, ballot.seat = outcome, reason[:300], None
        return _say(ballot, comparison, before, key, None)


def _lock(ballot: Ballot, key: UUID, *, votes: bool) -> tuple[Ballot, Comparison]:
    """The rows behind a ballot, locked and fresh: the answer that was stored under this key, or
    what may be answered, at the time by the database's clock. Raises when the key is another
    ballot's, and when it is too late."""
    beside: Any
    found, besides = together(
        (_LOCKED, {"ballot": ballot.pk}), (_BESIDE, {"ballot": ballot.pk, "key": key})
    )
    if not found:
        raise Ballot.DoesNotExist
    fresh, beside = found[0], besides[0]
    comparison = fresh.comparison
    if fresh.idempotency_key == key:
        return fresh, comparison
    if beside.key_used:
        raise ForeignKeyUsed("This form was already sent for another comparison. Reload the page.")
    if fresh.outcome:
        raise AlreadyCast("You have already answered this comparison; your first answer stands.")
    if beside.opened_since:
        raise AlreadyCast("You have opened this comparison again since; answer it there.")
    if votes and beside.drafted:  # a skip that is taken back finds what was typed
        Draft.objects.filter(ballot=fresh).delete()
    fresh.cast_at = beside.now
    return fresh, comparison


def _say(
    ballot: Ballot, comparison: Comparison, before: Ballot | None, key: UUID, active_ms: int | None
) -> Ballot:
    """Store what the ballot holds now, and what follows from it."""
    ballot.idempotency_key = key
    if active_ms is not None:
        ballot.active_ms = min(max(active_ms, 0), MOST_ACTIVE_MS)
    failpoints.reach("vote.storing")
    together(
        history.BALLOTS.updating(ballot, SAID_NOW),
        *history.counting(before, comparison, by=ballot),
        *seats.recounting(comparison),
    )
    training.review(ballot)
    failpoints.reach("vote.stored")
    return ballot
