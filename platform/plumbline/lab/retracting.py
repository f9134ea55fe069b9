"""Votes that are to train nothing any more, what they went into, and having that made again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot
from plumbline.collect.votes import VOTES
from plumbline.loop import lineage, rebuilding, retractions
from plumbline.loop.models import Experiment, Rebuild, Retraction, Round
from plumbline.permissions import PlumblineRequest

A_PAGE = 50
Groups = list[tuple[Experiment, list[lineage.Taint], bool]]


def retracted(request: PlumblineRequest) -> HttpResponse:
    """The page; a POST retracts a vote or all of a person's."""
    if request.method == "POST":
        return _retract(request)
    every = Retraction.objects.filter(project=request.project).select_related(
        "ballot__annotator", "ballot__comparison__campaign", "annotator", "actor", "undone_by"
    )
    page = Paginator(every, A_PAGE).get_page(request.GET.get("page"))
    tainted = lineage.tainted(request.project)
    context = {
        "page": page,
        "rows": [(one, retractions.votes_of(one).count()) for one in page.object_list],
        "people": _people(request),
        "ballot": _ballot(request, request.GET.get("vote", "")),
        "groups": _groups(tainted),
        "rounds": len(tainted),
        "policies": lineage.policies(request.project, [one.round for one in tainted]),
        "rebuilds": _rebuilds(request),
    }
    return render(request, "lab/retract.html", context)


def undo(request: PlumblineRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Retraction, project=request.project, pk=pk)
    try:
        retractions.undo(found, actor=request.user, reason=request.POST.get("reason", ""))
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "The votes count again.")
    return redirect("retractions", request.project.slug)


def rebuild(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Begin a rebuild of an experiment's tainted rounds, and of the round asked for."""
    found = get_object_or_404(Experiment, project=request.project, pk=pk)
    number = request.POST.get("round", "")
    also = int(number) if number.isdecimal() else None
    reason = request.POST.get("reason", "")
    try:
        made = rebuilding.begin(found, actor=request.user, reason=reason, also=also)
    except ValueError as error:
        messages.error(request, str(error))
        return redirect("retractions", request.project.slug)
    messages.success(request, f"{made.name} begins. The loop takes it from here.")
    return redirect("experiment", request.project.slug, made.pk)


def _retract(request: PlumblineRequest) -> HttpResponse:
    reason, person = request.POST.get("reason", ""), request.POST.get("person", "")
    here = redirect("retractions", request.project.slug)
    try:
        if ballot := _ballot(request, request.POST.get("vote", "")):
            retractions.retract_vote(ballot, actor=request.user, reason=reason)
            messages.success(request, "The vote trains nothing any more.")
            return here
        who = _people(request).filter(pk=int(person)).first() if person.isdecimal() else None
        if who is None:
            raise ValueError("Choose whose votes are to be retracted.")
        retractions.retract_person(request.project, who, actor=request.user, reason=reason)
        messages.success(request, f"What {who.username} says trains nothing any more.")
    except ValueError as error:
        messages.error(request, str(error))
    return here


def _people(request: PlumblineRequest) -> Any:
    """Those who voted in the project, with how many votes."""
    voted = Ballot.objects.filter(comparison__campaign__project=request.project, outcome__in=VOTES)
    counts = voted.order_by().values("annotator").annotate(n=Count("pk"))
    return User.objects.filter(pk__in=counts.values("annotator")).order_by("username")


def _ballot(request: PlumblineRequest, given: str) -> Ballot | None:
    """A vote of the project by its id; None for anything else."""
    here = Ballot.objects.filter(comparison__campaign__project=request.project, outcome__in=VOTES)
    try:
        return here.select_related("annotator", "comparison__prompt").get(pk=UUID(given))
    except (ValueError, ValidationError, Ballot.DoesNotExist):
        return None


def _groups(tainted: list[lineage.Taint]) -> Groups:
    """Tainted rounds by their experiment, and whether that can be rebuilt: a rebuild is rebuilt by
    rebuilding what it replays."""
    found: dict[int, list[lineage.Taint]] = {}
    for one in tainted:
        found.setdefault(one.round.experiment_id, []).append(one)
    replaying = set(
        Rebuild.objects.filter(experiment__in=found).values_list("experiment", flat=True)
    )
    return [
        (
            rows[0].round.experiment,
            rows,
            pk not in replaying and any(row.round.policy_out_id for row in rows),
        )
        for pk, rows in found.items()
    ]


def _rebuilds(request: PlumblineRequest) -> list[tuple[Rebuild, list[Round]]]:
    """The latest rebuilds with their rounds so far."""
    found = Rebuild.objects.filter(experiment__project=request.project)
    rounds = Round.objects.select_related("replays__policy_out", "policy_out")
    return [
        (one, list(rounds.filter(experiment=one.experiment).order_by("number")))
        for one in found.select_related("experiment", "of", "actor")[:A_PAGE]
    ]
