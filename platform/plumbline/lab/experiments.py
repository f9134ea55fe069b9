"""Experiments: the list, and one experiment's page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, OuterRef, Prefetch, QuerySet, Subquery
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from align import algorithms
from plumbline.audit.record import record
from plumbline.lab import blends, piloting
from plumbline.loop import forms, rewarding
from plumbline.loop.models import Evaluation, Experiment, Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import Policy

A_PAGE = 25


def experiments(request: PlumblineRequest) -> HttpResponse:
    """All experiments of the project with where each stands."""
    last = Round.objects.filter(experiment=OuterRef("pk")).order_by("-number")
    measured = Evaluation.objects.filter(
        round__experiment=OuterRef("pk"), against=Evaluation.Against.CURRENT
    ).order_by("-round__number")
    found = (
        Experiment.objects.filter(project=request.project)
        .annotate(
            begun=Count("rounds"),
            newest=Subquery(last.values("pk")[:1]),
            measured=Subquery(measured.values("pk")[:1]),
        )
        .order_by("-created_at", "-pk")
    )
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    marks = [(one, one.newest, one.measured) for one in page.object_list]  # type: ignore[attr-defined]  # annotated
    newest = Round.objects.select_related("policy_in", "policy_out").in_bulk(
        [n for _, n, _ in marks]
    )
    latest = Evaluation.objects.in_bulk([m for _, _, m in marks])
    rows = [(one, newest.get(n), latest.get(m)) for one, n, m in marks]
    return render(request, "lab/experiments.html", {"page": page, "rows": rows})


def experiment(request: PlumblineRequest, pk: int) -> HttpResponse:
    """One experiment: its rounds first, then every setting they share."""
    found = get_object_or_404(
        Experiment.objects.select_related(
            "start", "soup_with", "prompt_set", "asked_as", "created_by"
        ),
        project=request.project,
        pk=pk,
    )
    page = Paginator(_rounds(found.rounds.all()).order_by("-number"), A_PAGE).get_page(
        request.GET.get("page")
    )
    context = {
        "experiment": found,
        "page": page,
        "rounds": [_row(one) for one in page.object_list],
        "busy": any(not one.over for one in page.object_list),
        "settings": _settings(found),
        **({} if request.htmx else piloting.context(found)),
    }
    if request.htmx and request.htmx.target != "blend":
        return render(request, "lab/experiment.html#rounds", context)
    context["blend"] = blends.told(found)
    name = "lab/blend.html" if request.htmx else "lab/experiment.html"
    return render(request, name, context)


def pause(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Stop beginning and advancing rounds, or go on. Running jobs finish either way."""
    states = Experiment.State
    found = get_object_or_404(Experiment, project=request.project, pk=pk)
    wanted = states.PAUSED if request.POST.get("state") == states.PAUSED else states.ACTIVE
    open_one = Experiment.objects.filter(pk=found.pk).exclude(state=states.FINISHED)
    with transaction.atomic():
        changed = open_one.update(state=wanted)
        if changed:
            record("experiment.switched", found, project=request.project, state=str(wanted))
    if not changed:
        messages.info(request, "This experiment has finished.")
    elif wanted == states.PAUSED:
        messages.success(request, "Paused. Jobs that run finish; nothing new begins.")
    else:
        messages.success(request, "Resumed.")
    return redirect("experiment", project=request.project.slug, pk=found.pk)


def _rounds(found: QuerySet[Round]) -> QuerySet[Round]:
    """Rounds with what a table of them shows, in a fixed number of queries."""
    return (
        found.select_related("policy_in", "policy_out")
        .annotate(ballots_used=Count("ballots"))
        .prefetch_related(Prefetch("evaluations", Evaluation.objects.select_related("opponent")))
    )


def _row(round: Round) -> dict[str, Any]:
    by_side = {one.against: one for one in round.evaluations.all()}
    took = (round.finished_at - round.started_at) if round.finished_at else None
    return {
        "round": round,
        "current": by_side.get(Evaluation.Against.CURRENT),
        "base": by_side.get(Evaluation.Against.BASE),
        "seconds": took.total_seconds() if took else None,
        "same": any(one.opponent.weights == Policy.Weights.BASE for one in by_side.values()),
    }


def _settings(found: Experiment) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Every setting under the launch form's own headings and labels."""
    values = forms.like(found) | {
        "name": found.name,
        "start": found.start.name,
        "prompt_set": found.prompt_set.name,
        "asked_as": found.asked_as.name if found.asked_as else "none",
        "labels": found.get_labels_display(),
        "pairs_from": found.get_pairs_from_display(),
        "reference": found.get_reference_display(),
        "soup_with": found.soup_with.name if found.soup_with else "none",
        "replay": found.get_replay_display(),
        "judge": found.get_judge_display(),
        "labellers": ", ".join(one.name for one in found.who_labels) or "none",
        "evaluator": found.evaluator.name if found.evaluator else "none",
        "agreement": found.get_agreement_display(),
    }
    fields = forms.ExperimentForm.base_fields
    groups = [
        (title, [(str(fields[name].label), values[name]) for name in names if name in values])
        for title, _, names in forms.ExperimentForm.GROUPS
    ]
    if found.blend:
        return [group for group in groups if group[0] == "Evaluation and gate"]
    algorithm = algorithms.discover().get(found.algorithm)  # None: its file is gone
    defaults = {one.name: one.default for one in algorithm.knobs()} if algorithm else {}
    knobs = [
        (name.replace("_", " ").capitalize(), value)
        for name, value in (defaults | found.knobs).items()
    ]
    return [
        (algorithm.title if algorithm else found.algorithm, knobs),
        *groups,
        rewarding.told(found),
    ]
