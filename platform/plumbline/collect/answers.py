"""One's own answers in a campaign, by what became of them: voted, skipped, flagged, open, drafts.

Hidden tests are among them like anything else. Others' answers are not.
"""

from __future__ import annotations

from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from plumbline.accounts.models import User
from plumbline.collect import screen
from plumbline.collect.ballots import campaign_of
from plumbline.collect.models import Ballot, Campaign
from plumbline.collect.queue import history
from plumbline.collect.votes import VOTES
from plumbline.permissions import PlumblineRequest

A_PAGE = 50
STATES = {
    "voted": "Answered",
    "skipped": "Skipped",
    "flagged": "Flagged",
    "draft": "Drafts",
    "open": "Open",
}


@never_cache
def answers(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Everything one has been asked here, newest first; `?state=` shows one kind of it."""
    row = campaign_of(request, campaign)
    rows = _latest(request.user, row)
    kinds = _kinds()
    counts = rows.aggregate(**{name: Count("pk", filter=found) for name, found in kinds.items()})
    state = request.GET.get("state", "")
    if state in STATES:
        rows = rows.filter(kinds[state])
    page = Paginator(rows, A_PAGE).get_page(request.GET.get("page"))
    context = {
        "campaign": row,
        "page": page,
        "state": state,
        "states": [(name, word, counts[name]) for name, word in STATES.items()],
        "every": sum(counts.values()) - counts["draft"],  # a draft is open, too
        "answers": [(one, screen.sentence(one) if one.outcome else "") for one in page],
    }
    return render(request, "collect/answers.html", context)


def _latest(user: User, campaign: Campaign) -> QuerySet[Ballot]:
    """The person's newest word on each comparison, and the claims they hold."""
    mine = Ballot.objects.filter(annotator=user, comparison__campaign=campaign)
    said = mine.exclude(outcome__in=("", Ballot.Outcome.WITHDRAWN)).filter(
        ~history.later_revision(said=True)
    )
    held = mine.filter(outcome="", expires_at__gt=Now())
    both = mine.filter(Q(pk__in=said.values("pk")) | Q(pk__in=held.values("pk")))
    return both.select_related("comparison__prompt", "draft").order_by("-claimed_at", "-cast_at")


def _kinds() -> dict[str, Q]:
    return {
        "voted": Q(outcome__in=VOTES),
        "skipped": Q(outcome=Ballot.Outcome.SKIPPED),
        "flagged": Q(outcome=Ballot.Outcome.FLAGGED),
        "draft": Q(outcome="", draft__isnull=False),
        "open": Q(outcome=""),
    }
