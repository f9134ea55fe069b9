"""One policy: what it was made from, what its gate found, what would change, what was decided."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.loop import decisions, difference, lineage, rebuilding
from plumbline.loop.models import Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Look, Policy

MOST_ROUNDS = 12  # listed of what went in; the rest is counted


def policy(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """The page to decide on, with the difference to what is served."""
    found = _find(request, pk)
    whole = lineage.graph(request.project)
    deployed = (
        Deployment.objects.filter(project=request.project, alias=serving.CURRENT)
        .select_related("policy", "previous")
        .first()
    )
    is_current = deployed is not None and deployed.policy == found
    change = None
    if deployed is not None and not is_current:
        change = difference.between(deployed.policy, found, whole)
    elif deployed is not None and deployed.previous is not None:
        change = difference.between(found, deployed.previous, whole)
    tainted = {one.round.pk: one for one in lineage.tainted(request.project, whole=whole)}
    round = difference.maker(found, whole)
    context: dict[str, Any] = {
        "policy": found,
        "round": round,
        "rounds": difference.made_from(found, whole),
        "most_rounds": MOST_ROUNDS,
        "votes": difference.votes(difference.made_from(found, whole)),
        "evaluations": list(round.evaluations.select_related("opponent")) if round else [],
        "deployed": deployed,
        "is_current": is_current,
        "change": change,
        "held": decisions.held(found),
        "may_judge": found.state == Policy.State.CANDIDATE and found.weights != "base",
        "decisions": decisions.history([found]),
        "taint": tainted.get(round.pk) if round else None,
        "same_weights": rebuilding.same_weights(round) if round else None,
        "rebuilt_as": _rebuilt_as(round),
        "alarms": list(
            Look.objects.filter(flip__after=found, alarm=True).select_related("guard__deployment")
        ),
        "canaries": list(Deployment.objects.filter(canary=found).order_by("alias")),
    }
    return render(request, "lab/policy.html", context)


def hold(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """Hold a candidate, or let its round go on."""
    found = _find(request, pk)
    going_on = request.POST.get("do") == "resume"
    say = decisions.resume if going_on else decisions.hold
    try:
        say(found, actor=request.user, reason=request.POST.get("reason", ""))
    except ValueError as error:
        messages.error(request, str(error))
    else:
        words = "goes on by its gate." if going_on else "is held until somebody decides."
        messages.success(request, f"{found.name} {words}")
    return redirect("policy", request.project.slug, found.pk)


def _find(request: PlumblineRequest, pk: UUID) -> Policy:
    policies = Policy.objects.select_related("parent")
    return get_object_or_404(policies, project=request.project, pk=pk)


def _rebuilt_as(round: Round | None) -> list[Round]:
    """The rounds that replayed the one that made it, the latest first."""
    if round is None:
        return []
    again = round.replayed_by.select_related("experiment", "policy_out", "replays__policy_out")
    return list(again.order_by("-pk"))
