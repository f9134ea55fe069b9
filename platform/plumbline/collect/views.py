"""A project, its campaigns, and the page where one comparison at a time is answered.

Opening a page never changes anything: a claim is a POST. After each answer the next comparison
comes with the same response, as the swapped part of the page for htmx or by a 303 without it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect, push_url

from plumbline.accounts.models import Role
from plumbline.collect import queue, screen, training
from plumbline.collect.forms import SKIP_REASONS, BallotForm, SkipForm, UndoForm
from plumbline.collect.models import Ballot, Campaign, Comparison
from plumbline.permissions import PlumblineRequest


class SeeOther(HttpResponseRedirect):
    status_code = 303


def project(request: PlumblineRequest) -> HttpResponse:
    """Campaigns with one's own progress; for researchers also what is served and what runs."""
    campaigns = list(request.project.campaigns.all()[:50])
    context: dict[str, Any] = {
        "campaigns": [
            (campaign, queue.progress(request.user, campaign))
            for campaign in campaigns
            if campaign.closed_at is None
        ],
        "closed": [campaign for campaign in campaigns if campaign.closed_at is not None],
    }
    if request.role != Role.ANNOTATOR:
        deployments = request.project.deployments.select_related("policy", "previous")
        context["current"] = deployments.filter(alias="current").first()
        context["experiments"] = request.project.experiments.prefetch_related(
            Prefetch("rounds", to_attr="latest_rounds")
        )[:5]
    return render(request, "collect/project.html", context)


def campaign(request: PlumblineRequest, campaign: int) -> HttpResponse:
    row = _campaign(request, campaign)
    context = {"campaign": row, "progress": queue.progress(request.user, row)}
    return render(request, "collect/campaign.html", context)


def claim(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Get the next comparison, or the one already open."""
    return _next(request, _campaign(request, campaign))


@never_cache
def ballot(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """One comparison: read it, answer it."""
    row = _ballot(request, ballot)
    if request.method == "POST":
        return _cast(request, row)
    if row.outcome:
        context = {"ballot": row, "campaign": row.comparison.campaign, "said": screen.sentence(row)}
        return render(request, "collect/answered.html", context)
    if not queue.is_live(row):
        context = {"ballot": row, "campaign": row.comparison.campaign}
        return render(request, "collect/expired.html", context)
    return _show(request, row)


def skip(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    row = _ballot(request, ballot)
    form = SkipForm(request.POST)
    if not form.is_valid():
        messages.warning(request, "Choose a reason to skip.")
        return _go(request, row)
    try:
        queue.skip(row, form.cleaned_data["reason"], form.cleaned_data["key"])
        messages.success(request, "Skipped. You will not be asked this one again.")
    except queue.Refused as refused:
        messages.warning(request, str(refused))
    return _next(request, row.comparison.campaign)


def undo(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Take back the answer the page named; sent twice it still takes back only that one."""
    row = _campaign(request, campaign)
    form = UndoForm(request.POST)
    latest = queue.last_said(request.user, row)
    if not form.is_valid() or latest is None or latest.pk != form.cleaned_data["ballot"]:
        return _next(request, row)
    try:
        reopened = queue.undo(request.user, row)
    except queue.Refused as refused:
        messages.warning(request, str(refused))
        return _next(request, row)
    if reopened is None:
        return _next(request, row)
    messages.info(request, "Taken back. Answer again when you are ready.")
    return _go(request, reopened)


def _campaign(request: PlumblineRequest, pk: int) -> Campaign:
    return get_object_or_404(Campaign, pk=pk, project=request.project)


def _ballot(request: PlumblineRequest, pk: UUID) -> Ballot:
    """A ballot of one's own; anybody else's does not exist."""
    return get_object_or_404(
        Ballot.objects.select_related("comparison__campaign", "comparison__prompt"),
        pk=pk,
        annotator=request.user,
        comparison__campaign__project=request.project,
    )


def _cast(request: PlumblineRequest, row: Ballot) -> HttpResponse:
    form = BallotForm(row, request.POST)
    if not form.is_valid():
        return _show(request, row, form, status=422)
    try:
        stored = queue.cast(row, form.verdict(), form.cleaned_data["key"])
        if row.comparison.kind == Comparison.Kind.TRAINING:
            training.settle(request.user, row.comparison.campaign)
            return _leave(request, "training-feedback", row.pk)
        messages.success(request, f"Saved: {screen.sentence(stored)}")
    except queue.Refused as refused:
        messages.warning(request, str(refused))
    return _next(request, row.comparison.campaign)


def _next(request: PlumblineRequest, campaign: Campaign) -> HttpResponse:
    """On to the next comparison, or to the campaign's page when nothing is left."""
    if training.due(request.user, campaign):
        return _leave(request, "training", campaign.pk)
    row = queue.claim_next(request.user, campaign)
    if row is not None:
        return _go(request, row)
    return _leave(request, "campaign", campaign.pk)


def _leave(request: PlumblineRequest, name: str, pk: int | UUID) -> HttpResponse:
    url = reverse(name, args=[request.project.slug, pk])
    return HttpResponseClientRedirect(url) if request.htmx else SeeOther(url)


def _go(request: PlumblineRequest, row: Ballot) -> HttpResponse:
    url = reverse("ballot", args=[request.project.slug, row.pk])
    if not request.htmx:
        return SeeOther(url)
    return push_url(_show(request, _ballot(request, row.pk)), url)


def _show(
    request: PlumblineRequest, row: Ballot, form: BallotForm | None = None, status: int = 200
) -> HttpResponse:
    campaign = row.comparison.campaign
    context = {
        "ballot": row,
        "campaign": campaign,
        "turns": row.comparison.prompt.messages,
        "panes": screen.panes(row),
        "form": form or BallotForm(row),
        "choices": screen.pair_choices(),
        "chosen": form["choice"].value() if form and form.is_pair else _taken_back(row),
        "key": uuid4(),
        "skip_reasons": SKIP_REASONS,
        "progress": queue.progress(request.user, campaign),
        "last": queue.last_said(request.user, campaign),
    }
    swap = request.htmx and not request.htmx.history_restore_request
    template = "collect/ballot.html" + ("#ballot" if swap else "")
    return render(request, template, context, status=status)


def _taken_back(row: Ballot) -> str:
    """After an undo, the choice that was taken back, so that one key corrects it."""
    withdrawn = row.revises
    if withdrawn is None or withdrawn.outcome != Ballot.Outcome.WITHDRAWN:
        return ""
    assert withdrawn.revises is not None
    return screen.write_pair(withdrawn.revises) if len(row.shown) == 2 else ""
