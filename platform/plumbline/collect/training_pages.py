"""The training phase as an annotator meets it: where they stand, the next item, the feedback."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache

from plumbline.collect import screen, training
from plumbline.collect.models import Ballot, Campaign, Comparison
from plumbline.permissions import PlumblineRequest


@never_cache
def page(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """What the training is, how far one is, and what comes next."""
    row = get_object_or_404(Campaign, pk=campaign, project=request.project)
    standing = training.standing(request.user, row)
    context = {
        "campaign": row,
        "standing": standing,
        "answered": [(ballot, training.is_right(ballot)) for ballot in standing.answered],
    }
    return render(request, "collect/campaigns/training.html", context)


def go_on(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """The next training comparison, or the whole training anew."""
    row = get_object_or_404(Campaign, pk=campaign, project=request.project)
    if request.POST.get("do") == "again":
        try:
            training.again(request.user, row)
        except ValueError as error:
            messages.warning(request, str(error))
    ballot = training.claim(request.user, row)
    if ballot is None:
        return redirect("training", request.project.slug, row.pk)
    return redirect("ballot", request.project.slug, ballot.pk)


@never_cache
def feedback(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """Whether an answer was as expected, and why."""
    row = get_object_or_404(
        Ballot.objects.select_related("comparison__campaign", "comparison__prompt").exclude(
            outcome=""
        ),
        pk=ballot,
        annotator=request.user,
        comparison__kind=Comparison.Kind.TRAINING,
        comparison__campaign__project=request.project,
    )
    campaign = row.comparison.campaign
    context = {
        "campaign": campaign,
        "ballot": row,
        "right": training.is_right(row),
        "said": _sentence(row),
        "expected": _expected(row),
        "turns": row.comparison.prompt.messages,
        "panes": screen.panes(row),
        "standing": training.standing(request.user, campaign),
    }
    return render(request, "collect/campaigns/feedback.html", context)


def _sentence(ballot: Ballot) -> str:
    if ballot.outcome in (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD, Ballot.Outcome.SKIPPED):
        return screen.sentence(ballot)
    return ballot.get_outcome_display()


def _expected(ballot: Ballot) -> str:
    """The expected answer in the letters the person saw, ratings after it."""
    known = ballot.comparison.expected or {}
    outcome = known.get("outcome", "")
    words = ""
    if outcome in (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD):
        words = screen.sentence(
            Ballot(shown=ballot.shown, outcome=outcome, ranking=known.get("ranking", []))
        )
    letters = {str(slot): "ABCDEFGHI"[at] for at, slot in enumerate(ballot.shown)}
    ratings = [
        f"{letters[slot]} {criterion} {value}"
        for slot, given in known.get("ratings", {}).items()
        for criterion, value in given.items()
    ]
    return "; ".join([*([words] if words else []), *sorted(ratings)])
