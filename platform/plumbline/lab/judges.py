"""A project's judges: who there is, making and changing one, and what changed between versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q, Sum
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.judges import calibration, changes, judges, kind
from plumbline.judges.models import Asking, Judge, JudgeVersion, Revising, Verdict
from plumbline.lab.judge_forms import JudgeForm, elsewhere, offered
from plumbline.permissions import PlumblineRequest


@dataclass(frozen=True)
class Line:
    """A judge in the list; `title` is its kind's, `agreement` its share with people's majority with
    `low` and `high`, where the current version is calibrated."""

    judge: Judge
    version: JudgeVersion
    title: str
    verdicts: int
    null: int
    cost: Decimal
    agreement: Mapping[str, float] | None


def judge_list(request: PlumblineRequest) -> HttpResponse:
    """All judges; the retired ones last."""
    found = list(Judge.objects.filter(project=request.project).order_by("retired_at", "name"))
    shown = [line(one) for one in found]
    shown.sort(key=lambda one: one.judge.retired_at is not None)
    return render(request, "lab/judges.html", {"lines": shown})


def line(judge: Judge) -> Line:
    counts = Verdict.objects.filter(version__judge=judge).aggregate(
        all=Count("pk"), null=Count("pk", filter=Q(p=None))
    )
    spent = Decimal(0)
    for rows in (Asking.objects.all(), Revising.objects.all()):
        spent += rows.filter(version__judge=judge).aggregate(cost=Sum("cost"))["cost"] or 0
    current = judges.current(judge)
    beside = calibration.newest(current)
    agreement = beside.figures["agreement"]["judge"] if beside else None
    return Line(judge, current, title(judge), counts["all"], counts["null"], spent, agreement)


def title(judge: Judge) -> str:
    """What its kind is called, or its name where the kind's file is gone."""
    found = kind.discover().get(judge.kind)
    return found.title if found else judge.kind


def judge_new(request: PlumblineRequest) -> HttpResponse:
    """Choose a kind, then fill in its form."""
    kinds = offered()
    chosen = request.GET.get("kind", "")
    if not chosen:
        return render(request, "lab/judge_kinds.html", {"kinds": (kinds | elsewhere()).items()})
    if chosen not in kinds:
        raise Http404(f"There is no kind of judge called {chosen}.")
    form = JudgeForm(request.project, chosen, request.POST or None)
    if request.method == "POST" and (version := form.save(request.user)):
        messages.success(request, f"{version.judge} is there.")
        return redirect("judge", request.project.slug, version.judge_id)
    status = 422 if form.is_bound else 200
    return render(
        request, "lab/judge_form.html", {"form": form, "kind": kinds[chosen]}, status=status
    )


def judge_edit(request: PlumblineRequest, judge: int) -> HttpResponse:
    """Change it: a new version where anything differs."""
    found = find(request, judge)
    if found.kind not in offered() or found.retired_at is not None:
        raise Http404("This judge is not changed on a page.")
    form = JudgeForm(request.project, found.kind, request.POST or None, judge=found)
    before = judges.current(found)
    if request.method == "POST" and (version := form.save(request.user)):
        if version.number > before.number:
            messages.success(request, f"{version} is current from now on.")
        else:
            messages.info(request, f"Nothing new: these are the settings of {version}.")
        return redirect("judge", request.project.slug, found.pk)
    context = {"form": form, "kind": form.kind, "judge": found, "version": before}
    return render(request, "lab/judge_form.html", context, status=422 if form.is_bound else 200)


def judge_versions(request: PlumblineRequest, judge: int) -> HttpResponse:
    """Every version, and what changed between two of them."""
    found = find(request, judge)
    versions = list(found.versions.select_related("created_by").order_by("-number"))
    by_number: Mapping[int, JudgeVersion] = {one.number: one for one in versions}
    to = by_number.get(_number(request.GET.get("to"))) or versions[0]
    since = by_number.get(_number(request.GET.get("from"))) or by_number.get(to.number - 1)
    context: dict[str, Any] = {"judge": found, "versions": versions, "to": to, "since": since}
    if since is not None:
        context["changes"] = changes.between(since.settings, to.settings)
    return render(request, "lab/judge_versions.html", context)


def judge_retire(request: PlumblineRequest, judge: int) -> HttpResponse:
    found = find(request, judge)
    judges.retire(found)
    messages.success(request, f"{found} is retired. What it said stays.")
    return redirect("judge", request.project.slug, found.pk)


def find(request: PlumblineRequest, pk: int) -> Judge:
    return get_object_or_404(
        Judge.objects.select_related("account", "created_by"), project=request.project, pk=pk
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0
