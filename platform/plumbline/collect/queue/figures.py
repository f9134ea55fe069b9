"""How far a campaign is, for everybody and for one person.

Small campaigns are counted at each look. In large ones a person's own votes are still exact; what
everybody did is counted at most every few seconds, and what is left for somebody up to a bound
that nobody reaches in a day. Nothing is decided by these: `complete` looks for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.core.cache import cache
from django.db.models import Count, F, OuterRef, Q, QuerySet, Sum
from django.db.models.lookups import LessThan
from django.utils import timezone

from plumbline.accounts.models import Membership, User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.queue import gate, history, order, seats, tally, training
from plumbline.collect.votes import SAID, VOTES, counted, kept

SMALL = 250  # comparisons of a campaign that is counted at each look
SECONDS, SECONDS_WANTED = 10, 300  # that counts of a larger one are kept
MOST_LEFT = 1000  # of what is left for somebody, counted
STEP = 5  # that rough figures go by


@dataclass(frozen=True)
class Progress:
    mine: int  # my standing votes in the campaign, hidden tests and training apart
    votes: int  # everybody's
    wanted: int  # people wanted on each comparison, summed
    left: int  # comparisons I could still answer, open ones included; in large campaigns at most
    # MOST_LEFT


def progress(user: User, campaign: Campaign) -> Progress:
    """Asks only: looking at a page changes nothing."""
    return _progress(user, campaign, gate.place(user, campaign))


def _progress(user: User, campaign: Campaign, theirs: Enrolment | None) -> Progress:
    key = f"progress:{campaign.pk}:{campaign.created_at.timestamp()}"
    wanted: int | None = cache.get(key)
    if wanted is None:
        asked = counted(campaign.comparisons.order_by()).filter(retired_at__isnull=True)
        people = tally.people_wanted(campaign)
        found = asked.aggregate(size=Count("pk"), wanted=Sum(people))
        wanted = found["wanted"] or 0
        if found["size"] <= SMALL:
            votes, mine = _counted(user, campaign)
            return Progress(mine, votes, wanted, _left(user, campaign, theirs))
        cache.set(key, wanted, SECONDS_WANTED)
    return Progress(
        mine=_mine(user, campaign, theirs),
        votes=_kept(f"{key}:votes", lambda: _votes(user, campaign)),
        wanted=wanted,
        left=_kept(f"{key}:{user.pk}", lambda: _left(user, campaign, theirs)),
    )


@dataclass(frozen=True)
class Seen:
    """The same as a person who answers sees it. Hidden tests count like anything else, and what
    would move only with an earnest vote is told roughly, so that no count says which was a test."""

    answered: int  # my standing votes, hidden tests among them
    share: int  # of everybody's votes, in percent, by fives
    left: int  # what I could still answer, by fives

    @property
    def to_go(self) -> str:
        """What is left in words; "" for nothing."""
        if self.left == 0:
            return ""
        return "a few" if self.left <= STEP else f"about {self.left:,}"


def seen(user: User, campaign: Campaign, theirs: Enrolment | None = None) -> Seen:
    """A person's progress for that person's eyes. `theirs`: their place, if it was just read."""
    theirs = theirs or gate.place(user, campaign)
    exact = _progress(user, campaign, theirs)
    alone = exact.wanted > SMALL  # there one vote of everybody's does not show
    if alone and theirs is not None and theirs.tests is not None:
        own = tests = theirs.tests
    else:
        own, tests = _tests(user, campaign, alone)
    share = 100 * (exact.votes + tests) // max(1, exact.wanted + tests)
    return Seen(
        answered=exact.mine + own,
        share=100 if exact.votes >= exact.wanted > 0 else min(95, share // STEP * STEP),
        left=-(-exact.left // STEP) * STEP,
    )


def complete(campaign: Campaign) -> bool:
    """Nothing more is to be expected: each comparison that is still asked has its votes, or all who
    could still vote have skipped it; or the deadline has passed."""
    if campaign.deadline is not None and campaign.deadline <= timezone.now():
        return True
    history.prepare(campaign)
    able = _able(campaign)
    people = max(1, able.count())  # a project nobody has joined yet waits for its first person
    latest = kept(
        Ballot.objects.filter(comparison=OuterRef("pk")).filter(~history.later_revision(said=True))
    )
    wanted = seats.wanted_in(F("campaign__overlap"))
    lacking = (
        order.wanting(campaign)
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
    members = members.exclude(user__kind=User.Kind.AI)  # a judge is never asked by the queue
    if campaign.invited_only:
        members = members.filter(user__in=here.values("user"))
    return members.exclude(user__in=out.values("user"))


def _kept(key: str, count: Callable[[], int]) -> int:
    found: int | None = cache.get(key)
    if found is None:
        found = count()
        cache.set(key, found, SECONDS)
    return found


def _counted(user: User, campaign: Campaign) -> tuple[int, int]:
    """Everybody's standing votes, and the person's own, counted one by one."""
    votes = kept(history.standing(counted(campaign.comparisons.all()))).order_by()
    found = votes.aggregate(all=Count("pk"), own=Count("pk", filter=Q(annotator=user)))
    return found["all"], found["own"]


def _tests(user: User, campaign: Campaign, alone: bool) -> tuple[int, int]:
    """Standing votes on hidden tests: the person's, and, but for `alone`, everybody's on those that
    this person may get."""
    here = Q(kind=Comparison.Kind.GOLD) | Q(kind=Comparison.Kind.REPEAT, only_for=user)
    said = history.standing(Comparison.objects.filter(here, campaign=campaign)).order_by()
    if alone:
        said = said.filter(annotator=user)
    found = said.aggregate(all=Count("pk"), own=Count("pk", filter=Q(annotator=user)))
    return found["own"], found["all"]


def _votes(user: User, campaign: Campaign) -> int:
    """Everybody's standing votes, by person; counted one by one until each person's are known."""
    if campaign.overlap_applied is None:
        return _counted(user, campaign)[0]
    here = Enrolment.objects.filter(campaign=campaign, excluded_at=None)
    votes: int | None = here.aggregate(n=Sum("votes"))["n"]
    return votes or 0


def _mine(user: User, campaign: Campaign, theirs: Enrolment | None) -> int:
    """The person's standing votes, which every vote keeps once a claim has counted them."""
    if theirs is not None and theirs.votes is not None:
        return theirs.votes
    asked = counted(Comparison.objects.filter(campaign=campaign))
    return kept(history.standing(asked).filter(annotator=user)).count()


def _left(user: User, campaign: Campaign, theirs: Enrolment | None) -> int:
    """What this person could still answer, from their cursor on, counted up to MOST_LEFT."""
    if gate.turned_away(campaign, theirs):
        return 0
    open_ones = list(history.live_claims(user, campaign).values_list("comparison", flat=True))
    left = len(open_ones)
    if gate.shut(campaign):
        return left
    if (theirs is None or theirs.trained_at is None) and training.of_campaign(campaign).exists():
        if gate.untrained(user, campaign, theirs):
            return left
        left += training.left_for(user, campaign).exclude(pk__in=open_ones).count()
    further = order.unanswered(user, campaign).exclude(pk__in=open_ones).order_by()
    parts = list(order.from_cursor(further, theirs)) if theirs is not None else []
    found = sum(part[:MOST_LEFT].count() for part in parts)
    return left + min(MOST_LEFT, found or further[:MOST_LEFT].count())
