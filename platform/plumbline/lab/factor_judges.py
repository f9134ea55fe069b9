"""Judges made of factors: the form that orders a hierarchy, weights fitted to votes, relevance.

The hierarchy's form keeps its order in itself: every button sends all of it, so that factors move
without a script and nothing is stored until it is saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render

from align import factors
from align.factor_jobs import FitJob
from align.hierarchy import Level
from plumbline.collect.models import Completion
from plumbline.fleet.models import Job
from plumbline.judges import factored, fits, judges, previews, program_parts
from plumbline.judges.models import Judge
from plumbline.loop import holdout
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import RewardModel

SIGNS = {0: "to be found", 1: "more is better", -1: "less is better"}


@dataclass(frozen=True)
class Row:
    """A level as the form shows it; `share` of the newest pairs it would decide."""

    factor: str
    title: str
    what: str
    sign: int
    margin: str
    share: float | None = None


def hierarchy(request: PlumblineRequest) -> HttpResponse:
    """The form; its buttons change the order, and the last one makes the judge."""
    posted = request.POST if request.method == "POST" else QueryDict()
    levels, problem = _levels(posted), ""
    levels, moved = _changed(levels, posted)
    model = _model(request, posted)
    if "save" in posted:
        try:
            version = fits.make_hierarchy(
                request.project,
                posted.get("name", ""),
                _read(levels),
                certainty=_number(posted.get("certainty", "0.9"), "The certainty"),
                reward_model=model,
                by=request.user,
            )
        except ValueError as error:
            problem = str(error)
        else:
            messages.success(request, f"{version.judge} can judge now.")
            return redirect("hierarchy-new", request.project.slug)
    shown, preview, doubt = _shown(request, levels, model)
    used = {one.factor for one in levels}
    context = {
        "rows": shown,
        "moved": moved,
        "preview": preview,
        "doubt": "" if problem else doubt,
        "problem": problem,
        "name": posted.get("name", ""),
        "certainty": posted.get("certainty", "0.9"),
        "free": [(one, factored.title(one)) for one in _offered(request) if one not in used],
        "models": _models(request),
        "model": model,
        "judges": _judges(request, "hierarchy"),
        "title_of": {one: factored.title(one) for one in _offered(request)},
    }
    return render(request, "lab/hierarchy.html", context, status=422 if problem else 200)


def weights(request: PlumblineRequest) -> HttpResponse:
    """Fits there were, and the form that begins another."""
    posted = request.POST if request.method == "POST" else QueryDict()
    signs = {
        one: int(said)
        for one in _offered(request)
        if (said := posted.get(f"sign:{one}", "")) in {"-1", "0", "1"}
    }
    problem, model = "", _model(request, posted)
    if request.method == "POST":
        try:
            job = fits.begin(
                request.project,
                signs,
                reward_model=model,
                left_out=lambda prompt: bool(holdout.of_prompt(prompt)),
            )
        except ValueError as error:
            problem = str(error)
        else:
            messages.success(request, f"{job.title}: under way.")
            return redirect("factor-weights", request.project.slug)
    context = {
        "offered": [
            (one, factored.title(one), _what(one), str(signs.get(one, "")))
            for one in _offered(request)
        ],
        "signs": [(str(value), words) for value, words in SIGNS.items()],
        "problem": problem,
        "models": _models(request),
        "model": model,
        "fits": [_fit(job) for job in fits.fits(request.project)],
        "judges": _judges(request, "features"),
    }
    return render(request, "lab/factor_weights.html", context, status=422 if problem else 200)


def adopt(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """A finished fit becomes a judge, or its next version."""
    job = get_object_or_404(Job, project=request.project, kind=FitJob.kind, pk=pk)
    model = _model(request, request.POST)
    try:
        version = fits.adopt(
            request.project, job, request.POST.get("name", ""), reward_model=model, by=request.user
        )
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{version} can judge now.")
    return redirect("factor-weights", request.project.slug)


def relevance(request: PlumblineRequest) -> HttpResponse:
    """The form of a judge by relevance; right answers are those that one source brought in."""
    posted = request.POST if request.method == "POST" else QueryDict()
    imported = Completion.objects.filter(prompt__set__project=request.project, policy=None)
    origins = sorted(set(imported.exclude(origin="").values_list("origin", flat=True)))
    problem, origin = "", posted.get("origin", "")
    if request.method == "POST":
        known = imported.filter(origin=origin) if origin in origins else imported.none()
        references = dict(known.order_by("-created_at").values_list("prompt__digest", "text"))
        try:
            settings = {
                "temperature": _number(posted.get("temperature", ""), "The temperature"),
                "references": references,
            }
            version = judges.make(
                request.project, posted.get("name", ""), "relevance", settings, by=request.user
            )
        except ValueError as error:
            problem = str(error)
        else:
            messages.success(request, f"{version.judge} can judge now.")
            return redirect("relevance-new", request.project.slug)
    context = {
        "problem": problem,
        "origins": origins,
        "origin": origin,
        "name": posted.get("name", ""),
        "temperature": posted.get("temperature", "0.25"),
        "judges": _judges(request, "relevance"),
    }
    return render(request, "lab/relevance.html", context, status=422 if problem else 200)


def _levels(posted: QueryDict) -> list[Row]:
    rows = zip(
        posted.getlist("factor"), posted.getlist("sign"), posted.getlist("margin"), strict=False
    )
    return [_row(name, -1 if sign == "-1" else 1, margin) for name, sign, margin in rows]


def _row(name: str, sign: int = 1, margin: str = "1") -> Row:
    return Row(name, factored.title(name), _what(name), sign, margin)


def _changed(levels: list[Row], posted: QueryDict) -> tuple[list[Row], str]:
    """The rows as a button leaves them, and the factor that it moved."""
    rows = list(levels)
    for step, name in ((-1, "up"), (1, "down")):
        at = _index(posted.get(name, ""), len(rows))
        if at is not None and 0 <= at + step < len(rows):
            rows[at], rows[at + step] = rows[at + step], rows[at]
            return rows, rows[at + step].factor
    if (at := _index(posted.get("remove", ""), len(rows))) is not None:
        del rows[at]
    if "add" in posted and posted.get("new", ""):
        name = posted.get("new", "")
        rows.append(_row(name))
        return rows, name
    return rows, ""


def _index(said: str, count: int) -> int | None:
    return int(said) if said.isdecimal() and int(said) < count else None


def _read(rows: Sequence[Row]) -> list[Level]:
    return [
        Level(
            factor=one.factor,
            sign=one.sign,
            margin=_number(one.margin, f"The margin of {one.title}"),
        )
        for one in rows
    ]


def _shown(
    request: PlumblineRequest, rows: list[Row], model: RewardModel | None
) -> tuple[list[Row], Any, str]:
    """The rows with what each would decide, and why that cannot be said."""
    if not rows:
        return rows, None, ""
    try:
        levels = _read(rows)
        for one in levels:
            factored.check(one.factor)
        found = previews.preview(request.project, levels, model)
    except ValueError as error:
        return rows, None, str(error)
    if found is None:
        return rows, None, "No prompt has two answers yet to try it on."
    shown = [
        Row(one.factor, one.title, one.what, one.sign, one.margin, share)
        for one, share in zip(rows, found.shares, strict=True)
    ]
    return shown, found, ""


def _number(said: str, what: str) -> float:
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a number, not {said!r}.")
    return value


def _what(name: str) -> str:
    if name in factors.FACTORS:
        return factors.FACTORS[name].what
    if name == factored.REWARD:
        return "What the chosen reward model says of it."
    if name.startswith(program_parts.PART):
        return "What a reward program says of it: a criterion of its rubric, or a component."
    return "The mean of people's ratings, as they stand when the judge is asked."


def _offered(request: PlumblineRequest) -> list[str]:
    return factored.offered(request.project)


def _models(request: PlumblineRequest) -> list[RewardModel]:
    found = RewardModel.objects.filter(project=request.project).exclude(
        objective="pairwise_generative"
    )
    return list(found.order_by("-created_at")[:50])


def _model(request: PlumblineRequest, posted: Mapping[str, Any]) -> RewardModel | None:
    asked = str(posted.get("reward_model", ""))
    return next((one for one in _models(request) if str(one.pk) == asked), None)


def _judges(request: PlumblineRequest, kind: str) -> list[tuple[Judge, dict[str, Any], Any]]:
    """Judges of a kind with their newest version's knobs, levels by their titles."""
    found = []
    for judge in Judge.objects.filter(project=request.project, kind=kind, retired_at=None):
        version = judges.current(judge)
        knobs = dict(version.settings["knobs"])
        levels = zip(knobs.get("levels", ()), knobs.get("margins", ()), strict=True)
        knobs["told"] = [
            {"title": factored.title(one["factor"]), "sign": one["sign"], "margin": margin}
            for one, margin in levels
        ]
        knobs["weighed"] = _weighed(knobs)
        found.append((judge, knobs, version))
    return found


def _fit(job: Job) -> dict[str, Any]:
    found = job.result or {}
    return {"job": job, "found": found, "weighed": _weighed(found), "signs": job.spec["signs"],
            "rewards": factored.REWARD in job.spec["signs"]}  # fmt: skip


def _weighed(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Weights with their intervals, the heaviest first."""
    rows = [
        {"title": factored.title(name), "weight": weight, "ends": found["intervals"].get(name)}
        for name, weight in found.get("weights", {}).items()
    ]
    return sorted(rows, key=lambda row: -abs(row["weight"]))
