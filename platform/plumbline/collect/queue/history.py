"""What a person has said so far: which of it stands, taking it back, revising it, leafing through.

Nothing said is ever edited. Undoing appends a withdrawal and opens a new claim; reopening opens a
claim beside a vote that stands until the revision is cast.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment, Flag
from plumbline.collect.queue import gate, seats
from plumbline.collect.queue.verdicts import Frozen, Refused, TooLate
from plumbline.collect.votes import COUNTED, SAID, TESTS, VOTES, counted
from plumbline.compiled import Given, Prepared, Step, Writing, given_id, together

Outcome = Ballot.Outcome
_shuffle = random.SystemRandom()
BALLOTS = Writing(Ballot)

# Of a place whose votes are not counted yet it changes nothing. In SQL, as every vote does it.
COUNT = Prepared.named(
    """
UPDATE collect_enrolment SET votes = votes + %(votes)s, tests = tests + %(tests)s
WHERE campaign_id = %(campaign)s AND user_id = %(user)s
""",
    *(given_id(name) for name in ("votes", "tests", "campaign", "user")),
)


def later_revision(*, said: bool = False) -> Exists:
    """Looked up by comparison, always: a person may have said very much."""
    later = Ballot.objects.alias(person=F("annotator_id") + 0).filter(
        comparison=OuterRef("comparison"),
        person=OuterRef("annotator"),
        revision__gt=OuterRef("revision"),
    )
    return Exists(later.exclude(outcome="") if said else later)


def standing(comparisons: QuerySet[Comparison]) -> QuerySet[Ballot]:
    """The votes that count: of each person on each comparison the latest that was said, if it is
    a vote (a skip or a withdrawal is none)."""
    return Ballot.objects.filter(comparison__in=comparisons, outcome__in=VOTES).filter(
        ~later_revision(said=True)
    )


def last_said(user: User, campaign: Campaign) -> Ballot | None:
    """What `undo` would take back: the person's latest answer that nothing replaced."""
    return answers(user, campaign).order_by("-cast_at", "-claimed_at").first()


def live_claims(user: User | Given, campaign: Campaign | Given) -> QuerySet[Ballot]:
    """Open claims whose seat is held and whose lease runs, the newest first."""
    return Ballot.objects.filter(
        annotator=user,
        comparison__campaign=campaign,
        outcome="",
        cast_at__isnull=True,  # as the outcome has it; this much is in an index
        seat__isnull=False,
        expires_at__gt=Now(),
    ).order_by("-claimed_at")


def is_live(ballot: Ballot) -> bool:
    """Whether the lease of an open claim still runs."""
    running = Ballot.objects.filter(pk=ballot.pk, expires_at__gt=Now())
    return not ballot.outcome and running.exists()


def previous(ballot: Ballot) -> Ballot | None:
    """The person's answer before this ballot; for an open one their latest, or the one before
    what it revises."""
    here = _place(ballot)
    said = answers(ballot.annotator, ballot.comparison.campaign)
    said = said.exclude(comparison=ballot.comparison_id)
    if here.cast_at is not None:
        said = said.filter(cast_at__lt=here.cast_at)
    return said.order_by("-cast_at", "-claimed_at").first()


def following(ballot: Ballot) -> Ballot | None:
    """The person's answer after this ballot, after the last one their open claim."""
    here, campaign = _place(ballot), ballot.comparison.campaign
    if here.cast_at is None:
        return None
    said = answers(ballot.annotator, campaign).exclude(comparison=ballot.comparison_id)
    after = said.filter(cast_at__gt=here.cast_at).order_by("cast_at", "claimed_at").first()
    if after is not None:
        return after
    waiting = live_claims(ballot.annotator, campaign).exclude(comparison=ballot.comparison_id)
    return waiting.first()


def undo(user: User, campaign: Campaign) -> Ballot | None:
    """Take back the latest answer: a withdrawal, and an open claim on the same comparison.

    None when there is nothing to take back. Raises Frozen once a round has trained on it, and
    TooLate when it was a skip and others have filled the comparison since.
    """
    with transaction.atomic():
        now = seats.lock_person(user)
        latest = last_said(user, campaign)
        if latest is None:
            return None
        comparison = seats.lock_comparison(latest.comparison_id)
        before = Ballot.objects.select_for_update().get(pk=latest.pk)
        if before.rounds.exists():
            raise Frozen("A training round already uses your last vote, so it cannot be undone.")
        seat = before.seat if before.seat is not None else seats.free_seat(comparison)
        if seat is None:
            raise TooLate("Others have answered that comparison since, so it cannot be reopened.")
        release(before)
        withdrawn = Ballot.objects.create(
            comparison=comparison,
            annotator=user,
            revision=_latest(before).revision + 1,
            revises=before,
            shown=before.shown,
            settings_version=campaign.settings_version,
            claimed_at=now,
            expires_at=now + timedelta(seconds=campaign.lease_seconds),
            cast_at=now,
            outcome=Outcome.WITHDRAWN,
        )
        replaced(before, comparison, by=withdrawn)
        opened = open_claim(user, comparison, seat, now, after=withdrawn)
        seats.recount(comparison)
        return opened


def reopen(ballot: Ballot) -> Ballot:
    """An open claim that revises an answer of one's own, also one that a round has frozen: that
    round keeps the vote it has, later ones get the revision.

    The answer stands until the revision is cast. Asked twice it gives the same claim. Raises a
    `Refused` where the person may not answer now, where the ballot is not their latest word on
    its comparison, and where a skip's seat has gone.
    """
    user, campaign = ballot.annotator, ballot.comparison.campaign
    may = gate.why_not_revise if ballot.outcome in VOTES else gate.why_not
    if why := may(user, campaign):
        raise Refused(why)
    with transaction.atomic():
        now = seats.lock_person(user)
        comparison = seats.lock_comparison(ballot.comparison_id)
        if not answers(user, campaign).filter(pk=ballot.pk).exists():
            raise Refused("You have said something else of this comparison since; open that.")
        before = Ballot.objects.select_for_update().get(pk=ballot.pk)
        latest = _latest(before)
        if is_live(latest):
            return latest
        seat = None  # the vote keeps it, and the revision takes it over
        if before.outcome not in VOTES:
            seat = seats.free_seat(comparison)
            if seat is None:
                raise TooLate("Others have answered that comparison since; it wants no more votes.")
        number = latest.revision + 1
        return open_claim(user, comparison, seat, now, after=before, number=number)


def frozen(ballot: Ballot) -> bool:
    """Whether a round has trained on this vote: it may be revised, and not be undone."""
    return ballot.rounds.exists()


def open_claim(
    user: User,
    comparison: Comparison,
    seat: int | None,
    now: datetime,
    *,
    after: Ballot | None = None,
    number: int | None = None,
    order: Sequence[int] | None = None,
) -> Ballot:
    """A new open claim; after an earlier one it keeps the order the person has seen. `now` is by
    the database's clock. `order` is that of the first, if it is not left to chance; `number` its
    revision, if not the next."""
    if after is not None:
        shown = list(after.shown)
    elif order is not None:
        shown = list(order)
    else:
        shown = [answer.slot for answer in comparison.replies]
        _shuffle.shuffle(shown)
    campaign = comparison.campaign
    opened = Ballot(
        comparison=comparison,
        annotator=user,
        revision=number or (after.revision + 1 if after else 1),
        revises=after,
        seat=seat,
        shown=shown,
        settings_version=campaign.settings_version,
        claimed_at=now,
        expires_at=now + timedelta(seconds=campaign.lease_seconds),
    )
    return BALLOTS.insert(opened)


def word_before(ballot: Ballot) -> Ballot | None:
    """What the person last said of the comparison before this ballot, withdrawals included."""
    if ballot.revision == 1:
        return None
    return (
        Ballot.objects.filter(
            comparison=ballot.comparison_id,
            annotator=ballot.annotator_id,
            revision__lt=ballot.revision,
        )
        .exclude(outcome="")
        .order_by("-revision")
        .first()
    )


def release(before: Ballot) -> None:
    """Free the seat of an answer that another word of the same person replaces."""
    if before.seat is not None:
        Ballot.objects.filter(pk=before.pk).update(seat=None)


def replaced(before: Ballot | None, comparison: Comparison, by: Ballot) -> None:
    """Keep the person's counts of standing votes, and settle a flag that is taken back."""
    together(*counting(before, comparison, by))


def counting(before: Ballot | None, comparison: Comparison, by: Ballot) -> list[Step]:
    """`replaced`; the counts to be run with others."""
    if before is not None and before.outcome == Outcome.FLAGGED:
        Flag.objects.filter(ballot=before, resolved_at=None).update(
            resolved_at=by.cast_at, resolved_by=by.annotator_id, resolution="Taken back"
        )
    change = (by.outcome in VOTES) - (before is not None and before.outcome in VOTES)
    if not change or comparison.kind not in (*COUNTED, *TESTS):
        return []
    votes, tests = (change, 0) if comparison.kind in COUNTED else (0, change)
    campaign, user = comparison.campaign_id, by.annotator_id
    return [(COUNT, {"votes": votes, "tests": tests, "campaign": campaign, "user": user})]


def resolve(flag: Flag, by: User, words: str, *, retire: bool) -> bool:
    """A researcher has looked at a flag: the comparison is asked again, or never more. False where
    the flag is settled already."""
    with transaction.atomic():
        comparison = seats.lock_comparison(flag.ballot.comparison_id)
        now = timezone.now()
        looked = {"resolved_at": now, "resolved_by": by, "resolution": words}
        if not Flag.objects.filter(pk=flag.pk, resolved_at=None).update(**looked):
            return False
        if retire and comparison.retired_at is None:
            comparison.retired_at = now
            comparison.save(update_fields=["retired_at"])
        seats.recount(comparison)
        return True


def prepare(campaign: Campaign) -> None:
    """Before a decision: what is derived from the ballots is as the campaign's overlap has it."""
    if seats.settle(campaign):
        count_votes(Enrolment.objects.filter(campaign=campaign))


def count_votes(places: QuerySet[Enrolment]) -> None:
    """Count the standing votes of people whose votes nobody has counted; from then on each vote
    keeps the number. A vote cast meanwhile waits for the place, and adds itself."""
    with transaction.atomic():
        for place in places.filter(votes=None).select_for_update(no_key=True).order_by("pk"):
            here = Comparison.objects.filter(campaign=place.campaign_id)
            votes, tests = (
                standing(asked).filter(annotator=place.user_id).count()
                for asked in (counted(here), here.filter(kind__in=TESTS))
            )
            Enrolment.objects.filter(pk=place.pk).update(votes=votes, tests=tests)


def answers(user: User | Given, campaign: Campaign | Given) -> QuerySet[Ballot]:
    """The person's latest words in a campaign, skips included and withdrawals not."""
    mine = Ballot.objects.filter(annotator=user, comparison__campaign=campaign, outcome__in=SAID)
    # Of each by itself: an anti-join may read the whole table to find the first of them.
    newest = (
        Ballot.objects.alias(person=F("annotator_id") + 0)
        .filter(comparison=OuterRef("comparison"), person=OuterRef("annotator"))
        .exclude(outcome="")
        .order_by("-revision")
        .values("revision")[:1]
    )
    return mine.filter(revision=Subquery(newest))


def _latest(ballot: Ballot) -> Ballot:
    """The person's newest ballot on the comparison of this one, open or not."""
    theirs = Ballot.objects.filter(comparison=ballot.comparison_id, annotator=ballot.annotator_id)
    return theirs.order_by("-revision")[0]


def _place(ballot: Ballot) -> Ballot:
    """Where a ballot is in its person's history: an open revision is where its vote is."""
    if ballot.outcome:
        return ballot
    before = word_before(ballot)
    return before if before is not None and before.outcome in SAID else ballot
