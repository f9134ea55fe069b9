"""A project and its campaigns, as the people who answer see them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import F, Prefetch, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse

from plumbline.accounts.models import Role
from plumbline.collect import enrolment, live, queue
from plumbline.collect.ballots import SeeOther, campaign_of
from plumbline.collect.queue import training
from plumbline.permissions import PlumblineRequest

SHOWN = 50  # campaigns on a project's page


def project(request: PlumblineRequest) -> HttpResponse:
    """Campaigns with one's own progress; for researchers also what is served and what runs."""
    every = request.project.campaigns.all()
    if request.role == Role.ANNOTATOR:
        here = request.user.enrolments.filter(left_at=None).values("campaign")
        every = every.filter(Q(invited_only=False) | Q(pk__in=here))
    # Open ones first, so that none is lost among those that closed since.
    every = every.order_by(F("closed_at").desc(nulls_first=True), "-created_at")
    campaigns = list(every[: SHOWN + 1])
    open_ones = [
        (campaign, queue.seen(request.user, campaign))
        for campaign in campaigns[:SHOWN]
        if campaign.closed_at is None
    ]
    context: dict[str, Any] = {
        "campaigns": sorted(open_ones, key=lambda one: one[1].left == 0),  # something to do first
        "closed": [one for one in campaigns[:SHOWN] if one.closed_at is not None],
        "more": len(campaigns) > SHOWN,
    }
    if request.role != Role.ANNOTATOR:
        deployments = request.project.deployments.select_related("policy", "previous")
        context["current"] = deployments.filter(alias="current").first()
        context["experiments"] = request.project.experiments.prefetch_related(
            Prefetch("rounds", to_attr="latest_rounds")
        )[:5]
    return render(request, "collect/project.html", context)


def campaign(request: PlumblineRequest, campaign: int) -> HttpResponse:
    row = campaign_of(request, campaign)
    context = {
        "campaign": row,
        "progress": queue.seen(request.user, row),
        "empty": not row.live and not row.comparisons.exists(),
        "why_not": queue.why_not(request.user, row),
        "capped": queue.cap_reached(request.user, row),
        "may_leave": request.user.enrolments.filter(campaign=row, left_at=None).exists(),
        "training": training.of_campaign(row).exists(),
        "live_prompts": live.prompts_left(row),
        "writes": live.writes(request.user, row),
    }
    return render(request, "collect/campaign.html", context)


def leave(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Leave a campaign for good; what one has said stays. A researcher can let one in again."""
    row = campaign_of(request, campaign)
    enrolment.leave(row, request.user)
    messages.info(request, f"You have left {row.name}. What you said stays.")
    return SeeOther(reverse("project", args=[request.project.slug]))
