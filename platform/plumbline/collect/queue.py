"""Who compares what next, and what they said: claim, cast, skip, undo.

Overlap is kept by seats (0..overlap-1) that the database holds unique, never by counters. A claim
is a lease that ends by the clock, so no sweeper is needed. Nothing said is ever edited: undoing
appends a withdrawal and opens a new claim. Locks are taken in the order person, comparison, ballot.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from plumbline.accounts.models import Membership, User
from plumbline.collect import asking
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison

Outcome = Ballot.Outcome
VOTES = (Outcome.RANKED, Outcome.ALL_BAD, Outcome.ABSOLUTE)  # what counts towards the overlap
SAID = (*VOTES, Outcome.SKIPPED, Outcome.FLAGGED)  # what a person is not asked again
SAID_FIELDS = (
    *("outcome", "ranking", "strength", "mark", "ratings", "corrections"),
    *("reasons", "reason", "comment"),
)
MOST_ACTIVE_MS = 24 * 3600 * 1000  # a browser's clock is not to be trusted
_shuffle = random.SystemRandom()


class Refused(ValueError):
    """A ballot that cannot be taken; the sentence is for the person who sent it."""


class TooLate(Refused):
    """The lease ended and somebody else has the seat."""


class AlreadyCast(Refused):
    """This ballot holds another answer."""


class Frozen(Refused):
    """A round has trained on this vote."""


class ForeignKeyUsed(Refused):
    """The idempotency key belongs to another ballot."""


@dataclass(frozen=True)
class Verdict:
    """What a person says of a comparison. `ranking` lists tie groups of slots, best first. What is
    said by slot has the slot's number as a string, as JSON does."""

    outcome: str
    ranking: list[list[int]] = field(default_factory=list)
    strength: int | None = None
    mark: int | None = None
    ratings: dict[str, dict[str, int]] = field(default_factory=dict)
    corrections: dict[str, str] = field(default_factory=dict)
    spans: list[asking.Span] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    reason: str = ""
    comment: str = ""
    active_ms: int | None = None


@dataclass(frozen=True)
class Progress:
    mine: int  # my standing votes in the campaign
    votes: int  # everybody's
    wanted: int  # comparisons times overlap
    left: int  # comparisons I could still answer, those I have open included


def claim_next(user: User, campaign: Campaign) -> Ballot | None:
    """The ballot this person should fill in now, or None when nothing is left for them.

    Their own live claim comes first (the newest of several, after an undo); else the comparison of
    highest priority with a free seat that they have not answered yet.
    """
    with transaction.atomic():
        _lock_person(user)
        live = _live_claims(user).filter(comparison__campaign=campaign).order_by("-claimed_at")
        mine = live.first()
        if mine is not None or campaign.closed_at is not None:
            return mine
        tried: list[int] = []
        # First what nobody else is looking at; then wait for those being looked at.
        for skip_locked in (True, False):
            while comparison := _next_comparison(user, campaign, tried, skip_locked):
                ballot = _take_seat(user, comparison, campaign)
                if ballot is not None:
                    return ballot
                tried.append(comparison.pk)  # the last seat went while we waited
    return None


def cast(ballot: Ballot, verdict: Verdict, key: UUID) -> Ballot:
    """Store a verdict. The same key again returns what is stored, whatever the verdict says.

    After the lease the vote still counts while its seat is free. Raises a `Refused` whose sentence
    says why not, and ValueError for a verdict that does not fit the comparison.
    """
    with transaction.atomic():
        ballot, comparison = _lock(ballot, key)
        if ballot.idempotency_key == key:
            return ballot
        _check_open(ballot)
        _check(verdict, ballot)
        if ballot.seat is None:  # the lease ended and claiming by others took the seat back
            seat = _free_seat(comparison)
            if seat is None:
                raise TooLate(
                    "Your time on this comparison ran out and somebody else has it now. "
                    "Nothing was saved; here is the next one."
                )
            ballot.seat = seat
        for name in SAID_FIELDS:
            setattr(ballot, name, getattr(verdict, name))
        ballot.spans = [asdict(span) for span in verdict.spans]
        return _say(ballot, key, verdict.active_ms)


def skip(ballot: Ballot, reason: str, key: UUID) -> Ballot:
    """Give the seat back and say why. The person is not asked this comparison again."""
    with transaction.atomic():
        ballot, _ = _lock(ballot, key)
        if ballot.idempotency_key == key:
            return ballot
        _check_open(ballot)
        ballot.outcome, ballot.reason, ballot.seat = Outcome.SKIPPED, reason[:300], None
        return _say(ballot, key, None)


def last_said(user: User, campaign: Campaign) -> Ballot | None:
    """What `undo` would take back: the person's latest answer that nothing replaced."""
    mine = Ballot.objects.filter(annotator=user, comparison__campaign=campaign, outcome__in=SAID)
    return mine.filter(~_later_revision()).order_by("-cast_at", "-claimed_at").first()


def undo(user: User, campaign: Campaign) -> Ballot | None:
    """Take back the latest answer: a withdrawal, and an open claim on the same comparison.

    None when there is nothing to take back. Raises Frozen once a round has trained on it, and
    TooLate when it was a skip and others have filled the comparison since.
    """
    with transaction.atomic():
        _lock_person(user)
        latest = last_said(user, campaign)
        if latest is None:
            return None
        comparison = Comparison.objects.select_for_update().get(pk=latest.comparison_id)
        before = Ballot.objects.select_for_update().get(pk=latest.pk)
        if before.rounds.exists():
            raise Frozen("A training round already uses your last vote, so it cannot be undone.")
        seat = before.seat if before.seat is not None else _free_seat(comparison)
        if seat is None:
            raise TooLate("Others have answered that comparison since, so it cannot be reopened.")
        now = timezone.now()
        Ballot.objects.filter(pk=before.pk).update(seat=None)
        withdrawn = Ballot.objects.create(
            comparison=comparison,
            annotator=user,
            revision=before.revision + 1,
            revises=before,
            shown=before.shown,
            settings_version=campaign.settings_version,
            claimed_at=now,
            expires_at=now + timedelta(seconds=campaign.lease_seconds),
            cast_at=now,
            outcome=Outcome.WITHDRAWN,
        )
        return _open(user, comparison, campaign, seat, after=withdrawn)


def is_live(ballot: Ballot) -> bool:
    """Whether the lease of an open claim still runs."""
    return not ballot.outcome and ballot.expires_at > timezone.now()


def standing(comparisons: QuerySet[Comparison]) -> QuerySet[Ballot]:
    """The votes that count: of each person on each comparison the latest that was said, if it is
    a vote (a skip or a withdrawal is none)."""
    return Ballot.objects.filter(comparison__in=comparisons, outcome__in=VOTES).filter(
        ~_later_revision(said=True)
    )


def progress(user: User, campaign: Campaign) -> Progress:
    votes = standing(campaign.comparisons.all()).aggregate(
        all=Count("id"), mine=Count("id", filter=Q(annotator=user))
    )
    left = 0 if campaign.closed_at else _unanswered(user, campaign).count()
    return Progress(
        mine=votes["mine"],
        votes=votes["all"],
        wanted=campaign.comparisons.count() * campaign.overlap,
        left=left + _live_claims(user).filter(comparison__campaign=campaign).count(),
    )


def complete(campaign: Campaign) -> bool:
    """Each comparison has its overlap of standing votes, or all who could still vote skipped it."""
    members = Membership.objects.filter(project=campaign.project_id).count()
    members = max(1, members)  # a project nobody has joined yet waits for its first person
    latest = Ballot.objects.filter(comparison=OuterRef("pk")).filter(~_later_revision(said=True))
    lacking = campaign.comparisons.annotate(
        votes=_count(latest.filter(outcome__in=VOTES)),
        answered=_count(latest.filter(outcome__in=SAID)),
    ).filter(votes__lt=campaign.overlap, answered__lt=members)
    return not lacking.exists()


def _lock_person(user: User) -> None:
    """One claim or undo of a person at a time, so that two tabs do not get two comparisons."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)


def _lock(ballot: Ballot, key: UUID) -> tuple[Ballot, Comparison]:
    """The rows behind a ballot, locked and fresh. Raises when the key is another ballot's."""
    comparison = (
        Comparison.objects.select_for_update(of=("self",))
        .select_related("campaign")
        .get(pk=ballot.comparison_id)
    )
    fresh = Ballot.objects.select_for_update().get(pk=ballot.pk)
    if fresh.idempotency_key != key and Ballot.objects.filter(idempotency_key=key).exists():
        raise ForeignKeyUsed("This form was already sent for another comparison. Reload the page.")
    return fresh, comparison


def _check_open(ballot: Ballot) -> None:
    if ballot.outcome:
        raise AlreadyCast("You have already answered this comparison; your first answer stands.")
    later = Ballot.objects.filter(
        comparison=ballot.comparison_id,
        annotator=ballot.annotator_id,
        revision__gt=ballot.revision,
    )
    if later.exists():
        raise AlreadyCast("You have opened this comparison again since; answer it there.")


def _check(verdict: Verdict, ballot: Ballot) -> None:
    slots = [slot for group in verdict.ranking for slot in group]
    if verdict.outcome == Outcome.ALL_BAD:
        if slots:
            raise ValueError("When all answers are bad there is nothing to rank.")
    elif verdict.outcome == Outcome.RANKED:
        if sorted(slots) != sorted(ballot.shown) or not all(verdict.ranking):
            raise ValueError("A ranking must place each answer exactly once.")
    elif verdict.outcome == Outcome.ABSOLUTE:
        if slots or asking.COMPARE in ballot.comparison.campaign.asks:
            raise ValueError("This campaign asks which answer is better; say that as well.")
    else:
        raise ValueError("Say which answer is better, that they tie, or that all are bad.")
    if verdict.strength not in (None, 1, 2, 3):
        raise ValueError("Strength is 1 (slightly), 2 (clearly) or 3 (much better).")
    _check_asked(verdict, ballot)


def _check_asked(verdict: Verdict, ballot: Ballot) -> None:
    """What is said beside the order is what the campaign asks for, and fits the answers."""
    campaign = ballot.comparison.campaign
    asks, criteria = set(campaign.asks), asking.criteria(campaign.criteria)
    if verdict.mark is not None and (asking.MARK not in asks or verdict.mark not in asking.MARKS):
        raise ValueError("The best answer is good, ok or bad, where a campaign asks for it.")
    if asking.RATE in asks and verdict.outcome != Outcome.ALL_BAD:
        asking.check_ratings(verdict.ratings, ballot.shown, criteria)
    elif verdict.ratings:
        raise ValueError("This campaign asks for no ratings.")
    slots = {str(slot) for slot in ballot.shown}
    if verdict.corrections and (asking.CORRECT not in asks or verdict.corrections.keys() - slots):
        raise ValueError("This campaign asks for no such correction.")
    if verdict.outcome == Outcome.ABSOLUTE and not (verdict.ratings or verdict.corrections):
        raise ValueError("Rate the answers or correct one.")
    if verdict.spans:
        if asking.SPANS not in asks:
            raise ValueError("This campaign asks for no marks on answers.")
        texts = {one.slot: one.completion.text for one in _slots(ballot)}
        asking.check_spans(verdict.spans, texts)


def _slots(ballot: Ballot) -> QuerySet[Candidate]:
    return ballot.comparison.slots.select_related("completion")


def _say(ballot: Ballot, key: UUID, active_ms: int | None) -> Ballot:
    ballot.cast_at = timezone.now()
    ballot.idempotency_key = key
    if active_ms is not None:
        ballot.active_ms = min(max(active_ms, 0), MOST_ACTIVE_MS)
    ballot.save()
    return ballot


def _live_claims(user: User) -> QuerySet[Ballot]:
    return Ballot.objects.filter(
        annotator=user, outcome="", seat__isnull=False, expires_at__gt=timezone.now()
    )


def _later_revision(*, said: bool = False) -> Exists:
    later = Ballot.objects.filter(
        comparison=OuterRef("comparison"),
        annotator=OuterRef("annotator"),
        revision__gt=OuterRef("revision"),
    )
    return Exists(later.exclude(outcome="") if said else later)


def _count(ballots: QuerySet[Ballot]) -> Coalesce:
    """How many ballots a comparison's subquery finds, 0 for none."""
    per_comparison = ballots.order_by().values("comparison").annotate(n=Count("pk"))
    return Coalesce(Subquery(per_comparison.values("n")), 0)


def _seat_taken(now: datetime) -> Q:
    return Q(seat__isnull=False) & (~Q(outcome="") | Q(expires_at__gt=now))


def _unanswered(user: User, campaign: Campaign) -> QuerySet[Comparison]:
    """Comparisons with a free seat that this person neither answered nor has open."""
    now = timezone.now()
    here = Ballot.objects.filter(comparison__campaign=campaign).order_by()
    seats = here.filter(_seat_taken(now)).values("comparison").annotate(taken=Count("pk"))
    mine = here.filter(~_later_revision(), annotator=user)
    mine = mine.filter(Q(outcome__in=SAID) | Q(outcome="", expires_at__gt=now))
    return (
        Comparison.objects.filter(campaign=campaign)
        .exclude(pk__in=seats.filter(taken__gte=campaign.overlap).values("comparison"))
        .exclude(pk__in=mine.values("comparison"))
    )


def _next_comparison(
    user: User, campaign: Campaign, tried: list[int], skip_locked: bool
) -> Comparison | None:
    return (
        _unanswered(user, campaign)
        .exclude(pk__in=tried)
        .order_by("-priority", "id")
        .select_for_update(of=("self",), skip_locked=skip_locked)
        .first()
    )


def _take_seat(user: User, comparison: Comparison, campaign: Campaign) -> Ballot | None:
    seat = _free_seat(comparison)
    if seat is None:
        return None
    before = comparison.ballots.filter(annotator=user).order_by("-revision").first()
    return _open(user, comparison, campaign, seat, after=before)


def _open(
    user: User, comparison: Comparison, campaign: Campaign, seat: int, after: Ballot | None
) -> Ballot:
    """A new open claim; after an earlier one it keeps the order the person has seen."""
    now = timezone.now()
    shown = list(after.shown) if after else [slot.slot for slot in comparison.slots.all()]
    if after is None:
        _shuffle.shuffle(shown)
    return Ballot.objects.create(
        comparison=comparison,
        annotator=user,
        revision=after.revision + 1 if after else 1,
        revises=after,
        seat=seat,
        shown=shown,
        settings_version=campaign.settings_version,
        claimed_at=now,
        expires_at=now + timedelta(seconds=campaign.lease_seconds),
    )


def _free_seat(comparison: Comparison) -> int | None:
    """The lowest free seat of a locked comparison, taking back those of claims that ran out."""
    now = timezone.now()
    comparison.ballots.filter(outcome="", expires_at__lte=now).update(seat=None)
    taken = set(comparison.ballots.filter(seat__isnull=False).values_list("seat", flat=True))
    free = (seat for seat in range(comparison.campaign.overlap) if seat not in taken)
    return next(free, None)
