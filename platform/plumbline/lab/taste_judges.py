"""A judge that reads a mixture reward model for some raters: the page that chooses for whom."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from plumbline.accounts.models import User
from plumbline.judges import judges
from plumbline.judges.models import Judge, JudgeVersion
from plumbline.loop import tastes
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import RewardModel

KIND = "tastes"


def new(request: PlumblineRequest) -> HttpResponse:
    """Choose a mixture, then the raters that it is read for, or each head's weight; a name that
    such a judge has gives that judge a new version."""
    models = _mixtures(request)
    posted = request.POST if request.method == "POST" else QueryDict()
    wanted = posted.get("model") or request.GET.get("model", "")
    model = next((one for one in models if str(one.pk) == wanted), models[0] if models else None)
    problem = ""
    if model is not None and "save" in posted:
        try:
            version = _make(request, model, posted)
        except ValueError as error:
            problem = str(error)
        else:
            messages.success(request, f"{version} can judge now.")
            return redirect("judge", request.project.slug, version.judge_id)
    context = {
        "models": models,
        "model": model,
        "raters": _raters(model) if model is not None else [],
        "shares": model.metrics["shares"] if model is not None else [],
        "given": [posted.get(f"head-{k}", "") for k in range(_heads(model))],
        "chosen": set(posted.getlist("rater")),
        "problem": problem,
        "name": posted.get("name", ""),
        "judges": _judges(request),
    }
    return render(request, "lab/taste_judge.html", context, status=422 if problem else 200)


def _make(request: PlumblineRequest, model: RewardModel, posted: QueryDict) -> JudgeVersion:
    """Raises ValueError with a sentence for whatever cannot be."""
    heads, whose = _weights(model, posted)
    settings = {"heads": heads, "whose": whose}
    name = posted.get("name", "").strip()
    there = Judge.objects.filter(project=request.project, name=name, kind=KIND).first()
    if there is not None:
        return judges.revise(there, settings, reward_model=model, by=request.user)
    return judges.make(request.project, name, KIND, settings, reward_model=model, by=request.user)


def _weights(model: RewardModel, posted: QueryDict) -> tuple[list[float], str]:
    """Each head's weight, and for whom that is, in words."""
    pks = posted.getlist("rater")
    given = [posted.get(f"head-{k}", "").strip() for k in range(_heads(model))]
    if pks and any(given):
        raise ValueError("Choose raters or give weights, not both.")
    if pks:
        known = set(model.metrics.get("routes", {}))
        raters = list(User.objects.filter(pk__in=known & set(pks)).order_by("username"))
        return tastes.weights(model, raters), ", ".join(one.username for one in raters)
    if not any(given):
        raise ValueError("Choose the raters that it is read for, or give each head a weight.")
    try:
        return [float(one or 0) for one in given], "weights that were given"
    except ValueError:
        raise ValueError("A head's weight is a number.") from None


def _mixtures(request: PlumblineRequest) -> list[RewardModel]:
    found = RewardModel.objects.filter(project=request.project, objective="mixture")
    return [one for one in found.order_by("-created_at", "-pk") if one.metrics.get("shares")]


def _raters(model: RewardModel) -> list[tuple[User, list[float], int]]:
    """Whom the mixture was trained on, their weights, and their heaviest head, from 1."""
    routes: dict[str, list[float]] = model.metrics.get("routes", {})
    people = User.objects.filter(pk__in=[key for key in routes if key.isdecimal()])
    rows = [(one, routes[str(one.pk)]) for one in people.order_by("username")]
    return [(one, told, max(range(len(told)), key=told.__getitem__) + 1) for one, told in rows]


def _heads(model: RewardModel | None) -> int:
    return len(model.metrics["shares"]) if model is not None else 0


def _judges(request: PlumblineRequest) -> list[tuple[Judge, dict[str, Any], JudgeVersion]]:
    found = Judge.objects.filter(project=request.project, kind=KIND, retired_at=None)
    newest = [(one, judges.current(one)) for one in found.order_by("name")]
    return [(one, version.settings["knobs"], version) for one, version in newest]
