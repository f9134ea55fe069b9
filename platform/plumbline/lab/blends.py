"""Blends: the form that makes policies of policies, and the picture of what came of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from align.measure import pareto
from plumbline.lab.cells import plain
from plumbline.lab.panels import ticks
from plumbline.loop import blending, evaluation
from plumbline.loop.blend_form import MOST, BlendForm
from plumbline.loop.models import Evaluation, Experiment, Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import Policy, RewardModel

WIDE, HIGH, EDGE = 640, 400, 48  # of the picture, in its own units


@dataclass
class Measured:
    """A point of the picture: a blend, or what blends are measured against."""

    title: str
    policy: Policy
    round: Round
    scores: list[float]
    objectives: list[str]  # names of what scored them, in their order
    evaluation: Evaluation | None = None
    best: bool = False  # no other is as good in everything and better in something
    x: float = 0.0
    y: float = 0.0

    @property
    def named(self) -> list[tuple[str, float]]:
        return list(zip(self.objectives, self.scores, strict=True))

    @property
    def label(self) -> str:
        return f"{self.title}: {', '.join(f'{score:.3f}' for score in self.scores)}"


@dataclass(frozen=True)
class Picture:
    """Points by two objectives; `ticks` are (place, value) of each axis."""

    across: RewardModel
    up: RewardModel
    points: list[Measured]
    x_ticks: list[tuple[float, float]]
    y_ticks: list[tuple[float, float]]
    front: str  # the line through the best ones, as an SVG path


def new(request: PlumblineRequest) -> HttpResponse:
    """The form, with what it would make; sending it begins the first point."""
    asked = request.POST if request.method == "POST" else request.GET
    like = request.GET.get("like", "")
    if like.isdecimal():
        repeated = get_object_or_404(Experiment, project=request.project, pk=int(like))
        form = BlendForm(request.project, initial=BlendForm.like(repeated))
    else:
        form = BlendForm(request.project, asked or None)
    if request.method == "POST" and form.is_valid():
        made = form.save(request.user)
        messages.success(request, f"{made.name} is under way: its first point is being made.")
        return redirect("experiment", project=request.project.slug, pk=made.pk)
    context: dict[str, Any] = {"form": form, "most": MOST}
    if form.is_bound:
        form.is_valid()
        context["preview"] = form.preview()
    name = "lab/blend_new.html#preview" if request.htmx else "lab/blend_new.html"
    status = 422 if request.method == "POST" else 200
    return render(request, name, context, status=status)


def download(request: PlumblineRequest, pk: int) -> HttpResponse:
    """The picture's numbers."""
    experiment = get_object_or_404(Experiment, project=request.project, pk=pk)
    if not experiment.blend:
        raise Http404
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["content-disposition"] = f'attachment; filename="blend-{pk}.csv"'
    writer = csv.writer(response)
    models = objectives(experiment)
    writer.writerow(
        [
            "point",
            "policy",
            *(plain(one.name) for one in models),
            "win rate",
            "low",
            "high",
            "kl",
            "front",
        ]
    )
    for one in measured(experiment, models):
        told = one.evaluation
        figures = [told.rate, told.low, told.high, told.kl] if told else [""] * 4
        writer.writerow(
            [plain(one.title), plain(one.policy.name), *one.scores, *figures, int(one.best)]
        )
    return response


def told(experiment: Experiment) -> dict[str, Any]:
    """What the experiment's page shows of a blend; nothing of one that trains."""
    if not experiment.blend:
        return {}
    models = objectives(experiment)
    found = measured(experiment, models)
    policies = Policy.objects.in_bulk(
        {pk for one in experiment.blend["points"] for pk in one["parts"]}
    )
    names = {str(pk): policy.name for pk, policy in policies.items()}
    return {
        "method": blending.METHODS[experiment.blend["method"]],
        "objectives": models,
        "measured": found,
        "recipes": [
            (one["asked"], [(names.get(pk, pk), share) for pk, share in one["parts"].items()])
            for one in experiment.blend["points"]
        ],
        "volume": _volume(found),
        "picture": picture(models, found),
    }


def objectives(experiment: Experiment) -> list[RewardModel]:
    wanted = experiment.blend.get("objectives", [])
    return list(RewardModel.objects.filter(pk__in=wanted).order_by("created_at", "pk"))


def measured(experiment: Experiment, models: Sequence[RewardModel]) -> list[Measured]:
    """Points whose answers every objective has scored, and the policies they were measured
    against, those of the first point's round."""
    found: list[Measured] = []
    evaluated = experiment.rounds.filter(evaluations__isnull=False).distinct().order_by("number")
    for round in evaluated.select_related("policy_out", "experiment"):
        assert round.policy_out is not None
        against = round.evaluations.filter(against=Evaluation.Against.CURRENT).first()
        if not found:
            for side, policy in _opponents(round):
                found += _measured(side, policy, round, models, None)
        title = blending.point(round).asked
        found += _measured(title, round.policy_out, round, models, against)
    for one, best in zip(found, pareto.front([one.scores for one in found]), strict=True):
        one.best = best and bool(models)
    return found


def picture(models: Sequence[RewardModel], found: Sequence[Measured]) -> Picture | None:
    """The first two objectives, in their own units."""
    if len(models) < 2 or len(found) < 2:
        return None
    spans = [_span([one.scores[axis] for one in found]) for axis in (0, 1)]
    for one in found:
        one.x = _place(one.scores[0], spans[0], EDGE, WIDE - EDGE / 3)
        one.y = _place(one.scores[1], spans[1], HIGH - EDGE, EDGE / 3)
    best = sorted((one for one in found if one.best), key=lambda one: one.x)
    x_ticks = [(_place(v, spans[0], EDGE, WIDE - EDGE / 3), v) for v in ticks(*spans[0], 6)]
    y_ticks = [(_place(v, spans[1], HIGH - EDGE, EDGE / 3), v) for v in ticks(*spans[1], 5)]
    line = " ".join(f"{'L' if n else 'M'}{one.x:.1f} {one.y:.1f}" for n, one in enumerate(best))
    return Picture(models[0], models[1], list(found), x_ticks, y_ticks, line)


def _measured(
    title: str,
    policy: Policy,
    round: Round,
    models: Sequence[RewardModel],
    evaluation: Evaluation | None,
) -> list[Measured]:
    scores = blending.scores(round, policy)
    if any(model.pk not in scores for model in models):
        return []
    values, names = [scores[one.pk] for one in models], [one.name for one in models]
    return [Measured(title, policy, round, values, names, evaluation)]


def _opponents(round: Round) -> list[tuple[str, Policy]]:
    found = evaluation.opponents(round)
    return [(str(Evaluation.Against(side).label), policy) for side, policy in found.items()]


def _volume(found: Sequence[Measured]) -> dict[str, float] | None:
    """The share of the space between the worst and the best of each objective that is commanded:
    by the policies that were there before, and with the blends."""
    if not found or len(found[0].scores) < 2:
        return None
    scaled = pareto.scaled([one.scores for one in found])
    origin = [0.0] * len(scaled[0])
    before = [row for one, row in zip(found, scaled, strict=True) if one.evaluation is None]
    return {
        "before": pareto.hypervolume(before, origin),
        "after": pareto.hypervolume(scaled, origin),
    }


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room


def _place(value: float, span: tuple[float, float], start: float, end: float) -> float:
    return start + (value - span[0]) / (span[1] - span[0]) * (end - start)
