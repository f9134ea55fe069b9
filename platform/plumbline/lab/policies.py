"""Policies: who descends from whom, what each alias serves, and every move of an alias."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from plumbline.loop import decisions
from plumbline.loop.models import Evaluation, Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Policy

HISTORY = 50
DEEPEST = 8  # further generations are indented no more
REASON = 300  # characters, as Flip.reason holds


@dataclass
class Line:
    """A policy on the lineage list."""

    policy: Policy
    depth: int
    round: Round | None
    aliases: list[str] = field(default_factory=list)
    evaluation: Evaluation | None = None


def policies(request: PlumblineRequest) -> HttpResponse:
    """Lineage, aliases and their history."""
    deployments = list(
        Deployment.objects.filter(project=request.project)
        .select_related("policy", "previous")
        .order_by("alias")
    )
    flips = (
        Flip.objects.filter(deployment__project=request.project)
        .select_related("deployment", "before", "after", "actor")
        .order_by("-at", "-pk")[:HISTORY]
    )
    context = {
        "lines": _lineage(request, deployments),
        "deployments": deployments,
        "serving": next((d.policy.name for d in deployments if d.alias == serving.CURRENT), ""),
        "flips": list(flips),
    }
    return render(request, "lab/policies.html", context)


def promote(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """Point the alias at a policy, after the engine has loaded it and it has answered."""
    policy = get_object_or_404(Policy, project=request.project, pk=pk)
    reason = request.POST.get("reason", "").strip()
    if not reason:
        messages.error(request, "Say why it is promoted; the reason is kept with the move.")
        return _back(request)
    try:
        serving.promote(
            request.project,
            policy,
            actor=request.user,
            reason=reason[:REASON],
            evidence=decisions.evidence(policy),
        )
    except (serving.EngineError, ValueError) as error:
        messages.error(request, f"Not promoted: {str(error).rstrip('.')}.")
    else:
        messages.success(request, f"{policy.name} is now current.")
    return _back(request)


def reject(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """Turn a candidate down; the round that made it ends without a promotion, a canary ends."""
    policy = get_object_or_404(Policy, project=request.project, pk=pk)
    reason = request.POST.get("reason", "").strip()
    if not reason:
        messages.error(request, "Say why it is rejected; the reason is kept with your name.")
        return _back(request)
    if not decisions.reject(policy, actor=request.user, reason=reason):
        messages.info(request, f"{policy.name} is no longer a candidate.")
        return _back(request)
    messages.success(request, f"{policy.name} is rejected.")
    try:
        serving.release(policy)
    except (serving.EngineError, ValueError) as error:
        messages.warning(request, f"The engine may still hold it: {str(error).rstrip('.')}.")
    return _back(request)


def roll_back(request: PlumblineRequest) -> HttpResponse:
    """Point the alias at the policy before."""
    reason = request.POST.get("reason", "").strip()
    alias = request.POST.get("alias", serving.CURRENT)
    if not reason:
        messages.error(request, "Say why it is rolled back; the reason is kept with the move.")
        return _back(request)
    try:
        deployment = serving.roll_back(
            request.project, actor=request.user, reason=reason[:REASON], alias=alias
        )
    except (serving.EngineError, ValueError) as error:
        messages.error(request, f"Not rolled back: {str(error).rstrip('.')}.")
    else:
        messages.success(request, f"{alias} is {deployment.policy.name} again.")
    return _back(request)


def _lineage(request: PlumblineRequest, deployments: Iterable[Deployment]) -> list[Line]:
    """Every policy after its parent, children oldest first."""
    found = list(Policy.objects.filter(project=request.project).order_by("created_at", "pk"))
    made = {
        one.policy_out_id: one
        for one in Round.objects.filter(policy_out__in=found)
        .select_related("experiment")
        .prefetch_related(Prefetch("evaluations", Evaluation.objects.select_related("opponent")))
    }
    children: dict[UUID | None, list[Policy]] = {}
    for policy in found:
        children.setdefault(policy.parent_id, []).append(policy)
    lines: list[Line] = []
    stack = [(policy, 0) for policy in reversed(children.get(None, []))]
    while stack:
        policy, depth = stack.pop()
        round = made.get(policy.pk)
        line = Line(policy, min(depth, DEEPEST), round)
        line.aliases = [one.alias for one in deployments if one.policy_id == policy.pk]
        if round is not None:
            sides = {one.against: one for one in round.evaluations.all()}
            line.evaluation = sides.get(Evaluation.Against.CURRENT)
        lines.append(line)
        stack += [(child, depth + 1) for child in reversed(children.get(policy.pk, []))]
    return lines


def _back(request: PlumblineRequest) -> HttpResponse:
    """To the page the button was on, if it is one of ours."""
    page = request.POST.get("next", "")
    if page and url_has_allowed_host_and_scheme(page, {request.get_host()}, request.is_secure()):
        return redirect(page)
    return redirect("policies", project=request.project.slug)
