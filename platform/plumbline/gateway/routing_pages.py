"""The routing page: what each alias serves, tries as canary and has shadowed, and how each does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from plumbline.accounts.models import Project
from plumbline.gateway import standing
from plumbline.gateway.models import ShadowPair
from plumbline.gateway.routing_forms import (
    CanaryForm,
    ObjectiveForm,
    ReasonForm,
    ShadowForm,
    live_keys,
)
from plumbline.gateway.standing import Standing
from plumbline.loop.mixtures import TWENTIETHS
from plumbline.permissions import PlumblineRequest
from plumbline.policies import objectives, serving, trials
from plumbline.policies.models import Deployment, Mixture, Policy, RouteChange

DAYS = 7
HISTORY = 50


@dataclass
class Shown:
    """An alias on the page, its figures since then."""

    deployment: Deployment
    standings: list[Standing]
    since: datetime
    canary: CanaryForm
    shadow: ShadowForm


def routing(request: PlumblineRequest) -> HttpResponse:
    return _page(request)


def canary(request: PlumblineRequest, alias: str) -> HttpResponse:
    """Start a canary, or change its policy or share."""
    deployment = _alias(request, alias)
    form = CanaryForm(deployment, request.POST)

    def change() -> str:
        policy, reason = form.cleaned_data["policy"], form.cleaned_data["reason"]
        how: dict[str, Any] = {"actor": request.user, "reason": reason}
        trials.set_canary(request.project, alias, policy, form.share, **how)
        return f"{policy.name} answers {form.share:.1%} of the requests to {alias}."

    return _changed(request, form, change)


def canary_end(request: PlumblineRequest, alias: str) -> HttpResponse:
    """Promote a canary, or drop it."""
    deployment, form = _alias(request, alias), ReasonForm(request.POST)
    promoting = request.POST.get("how") == "promote"

    def change() -> str:
        tried = deployment.canary
        if tried is None:
            raise ValueError(f"{alias} has no canary")
        since = _since(deployment)
        told = standing.evidence(request.project, alias, since, tried, deployment.policy)
        end = trials.promote_canary if promoting else trials.drop_canary
        reason = form.cleaned_data["reason"]
        end(request.project, alias, actor=request.user, reason=reason, evidence=told)
        if promoting:
            return f"{alias} is now {tried.name}; all requests go to it."
        return f"The canary has ended; all requests to {alias} go to {deployment.policy.name}."

    return _changed(request, form, change)


def shadow(request: PlumblineRequest, alias: str) -> HttpResponse:
    """Start a shadow, or change it."""
    deployment = _alias(request, alias)
    form = ShadowForm(deployment, request.POST)

    def change() -> str:
        policy, keys = form.cleaned_data["policy"], form.cleaned_data["keys"]
        how: dict[str, Any] = {"actor": request.user, "reason": form.cleaned_data["reason"]}
        trials.set_shadow(request.project, alias, policy, form.share, keys, **how)
        return f"{policy.name} shadows {form.share:.1%} of the requests to {alias} that agree."

    return _changed(request, form, change)


def shadow_end(request: PlumblineRequest, alias: str) -> HttpResponse:
    _alias(request, alias)
    form = ReasonForm(request.POST)

    def change() -> str:
        reason = form.cleaned_data["reason"]
        trials.drop_shadow(request.project, alias, actor=request.user, reason=reason)
        return f"{alias} is shadowed no more; what was written waits for review."

    return _changed(request, form, change)


def objective(request: PlumblineRequest) -> HttpResponse:
    """Let a name mean a policy."""
    form = ObjectiveForm(request.project, request.POST)

    def change() -> str:
        name, policy = form.cleaned_data["name"], form.cleaned_data["policy"]
        how: dict[str, Any] = {"actor": request.user, "reason": form.cleaned_data["reason"]}
        objectives.put(request.project, name, policy, **how)
        return f"plumbline:{name} is {policy.name}."

    return _changed(request, form, change)


def objective_end(request: PlumblineRequest, name: str) -> HttpResponse:
    form = ReasonForm(request.POST)

    def change() -> str:
        reason = form.cleaned_data["reason"]
        objectives.drop(request.project, name, actor=request.user, reason=reason)
        return f"{name} is no objective any more."

    return _changed(request, form, change)


def _changed(
    request: PlumblineRequest, form: forms.Form, change: Callable[[], str]
) -> HttpResponse:
    """Do it if the form is right; back to the page with what was done, or with what is wrong."""
    if form.is_valid():
        try:
            messages.success(request, change())
        except (serving.EngineError, ValueError) as error:
            form.add_error(None, f"Nothing was changed: {str(error).rstrip('.')}.")
        else:
            return redirect("routing", request.project.slug)
    return _page(request, form, 422)


def _page(
    request: PlumblineRequest, wrong: forms.Form | None = None, status: int = 200
) -> HttpResponse:
    project = request.project
    found = Deployment.objects.filter(project=project).select_related(
        "policy", "previous", "canary", "shadow", "project"
    )
    shown = [_shown(one, wrong) for one in found.order_by("alias")]
    pairs = ShadowPair.objects.filter(project=project)
    aim = wrong if isinstance(wrong, ObjectiveForm) else ObjectiveForm(project)
    in_place = isinstance(wrong, CanaryForm | ObjectiveForm)
    context = {
        "shown": shown,
        "wrong": None if in_place else wrong,
        "aim": aim,
        "objectives": project.objectives.select_related("policy"),
        "mixtures": _mixtures(project),
        "keys": live_keys(project).exists(),
        "pairs": pairs.count(),
        "waiting": pairs.filter(comparison=None).count(),
        "changes": RouteChange.objects.filter(project=project).select_related(
            "before", "after", "actor"
        )[:HISTORY],
    }
    return render(request, "gateway/routing.html", context, status=status)


def _mixtures(project: Project) -> list[tuple[str, Mixture]]:
    """What clients weighed, in policies' names, the last used first."""
    found = list(project.mixtures.select_related("policy")[:HISTORY])
    names = {
        str(pk): name
        for pk, name in Policy.objects.filter(project=project).values_list("pk", "name")
    }
    return [
        (
            ", ".join(
                f"{share / TWENTIETHS:.2f} {names[pk]}"
                for pk, share in sorted(one.parts.items(), key=lambda part: -part[1])
            ),
            one,
        )
        for one in found
    ]


def _shown(deployment: Deployment, wrong: forms.Form | None) -> Shown:
    """With the form that was filled in wrongly in its place."""
    forms_: list[Any] = [CanaryForm(deployment), ShadowForm(deployment)]
    for at, one in enumerate(forms_):
        if wrong is not None and type(wrong) is type(one) and wrong.auto_id == one.auto_id:
            forms_[at] = wrong
    since = _since(deployment)
    found = standing.of_alias(deployment.project, deployment.alias, since)
    return Shown(deployment, found, since, *forms_)


def _since(deployment: Deployment) -> datetime:
    """When the canary began, so that both sides are counted over the same time; a week ago
    without one."""
    week = timezone.now() - timedelta(days=DAYS)
    if deployment.canary is None:
        return week
    began = RouteChange.objects.filter(
        project=deployment.project_id,
        what=RouteChange.What.CANARY,
        name=deployment.alias,
        after=deployment.canary,
    ).exclude(before=deployment.canary)
    started = began.order_by("-at").values_list("at", flat=True).first()
    return started or week


def _alias(request: PlumblineRequest, alias: str) -> Deployment:
    found = Deployment.objects.select_related("policy", "canary", "shadow", "project")
    return get_object_or_404(found, project=request.project, alias=alias)
