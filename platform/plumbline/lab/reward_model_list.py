"""All reward models of a project in one table, and the pairs that one of them is disputed about."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render

from plumbline.lab.cells import plain
from plumbline.loop import disputes as disputing
from plumbline.loop.models import Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import RewardModel

A_PAGE, DISPUTES = 50, 5
Interval = dict[str, Any] | None  # as `quality.as_json` has it


@dataclass(frozen=True)
class Line:
    """A reward model with what was measured of it on votes it never saw; None where nothing was."""

    model: RewardModel
    made: Round | None
    people: Interval  # accuracy on people's held-out votes
    test: Interval  # on test prompts alone
    ece: float | None
    length: Interval  # correlation of score and length
    style: tuple[str, float] | None  # the mark of style that it follows most
    distance: Interval  # STARC distance to the model before
    passed: bool | None  # its gate
    judges: int  # rounds that go by it


def reward_models(request: PlumblineRequest) -> HttpResponse:
    """The newest first, with the figures by which they are told apart."""
    page = Paginator(_found(request), A_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "lab/reward_models.html",
        {"page": page, "lines": lines(request, list(page.object_list))},
    )


def download(request: PlumblineRequest) -> HttpResponse:
    """The whole table as CSV."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"reward-models-{request.project.slug}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(response)
    writer.writerow(
        ["name", "objective", "made_in", "ballots", "accuracy", "accuracy_low", "accuracy_high",
         "test_accuracy", "calibration_error", "temperature", "length_correlation",
         "distance_to_the_last", "gate", "rounds_judged"]
    )  # fmt: skip
    for one in lines(request, list(_found(request))):
        made = str(one.made) if one.made else ""
        gate = "" if one.passed is None else "passed" if one.passed else "not passed"
        ends = (one.people or {}).get("low"), (one.people or {}).get("high")
        cells = [one.model.name, one.model.objective, made, one.model.ballots_used,
                 _value(one.people), *ends, _value(one.test), one.ece, one.model.temperature,
                 _value(one.length), _value(one.distance), gate, one.judges]  # fmt: skip
        writer.writerow(["" if c is None else plain(c) if isinstance(c, str) else c for c in cells])
    return response


def disputes(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """The pairs that the model and people, or its members, see most differently."""
    model = get_object_or_404(RewardModel, project=request.project, pk=pk)
    several = model.scores.filter(spread__isnull=False).exists()
    kind = request.GET.get("kind", "")
    if kind not in disputing.KINDS:
        kind = disputing.PEOPLE
    only = request.GET.get("only", "")
    if only not in disputing.FILTERS:
        only = disputing.EVERY
    page = Paginator(disputing.disputes(model, kind, only), DISPUTES).get_page(
        request.GET.get("page")
    )
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "model": model,
        "kind": kind,
        "only": only,
        "kinds": disputing.KINDS.items(),
        "filters": disputing.FILTERS.items(),
        "several": several,
        "page": page,
        "told": disputing.told(list(page.object_list)),
        "query": query.urlencode(),
    }
    return render(request, "lab/disputes.html", context)


def lines(request: PlumblineRequest, models: Sequence[RewardModel]) -> list[Line]:
    """In the models' order, with two queries for all of them."""
    made = {
        str(one.figures["reward_gate"]["candidate"]): one
        for one in Round.objects.filter(
            experiment__project=request.project, figures__has_key="reward_gate"
        ).select_related("experiment")
        if "candidate" in one.figures["reward_gate"]
    }
    return [_line(one, made.get(str(one.pk))) for one in models]


def _found(request: PlumblineRequest) -> Any:
    return (
        RewardModel.objects.filter(project=request.project)
        .annotate(judges=Count("rounds", filter=~Q(rounds__stage="cancelled")))
        .order_by("-created_at", "-pk")
    )


def _line(model: RewardModel, made: Round | None) -> Line:
    measured = model.metrics.get("measured", {})
    slices = {one["name"]: one.get("accuracy") for one in measured.get("slices", [])}
    previous = measured.get("previous") or {}
    gate = model.metrics.get("gate")
    style = [(name, one["value"]) for name, one in measured.get("style", {}).items() if one]
    return Line(
        model=model,
        made=made,
        people=slices.get("people"),
        test=slices.get("test"),
        ece=measured.get("ece"),
        length=measured.get("length"),
        style=max(style, key=lambda one: abs(one[1])) if style else None,
        distance=previous.get("distance"),
        passed=None if gate is None else bool(gate["passed"]),
        judges=getattr(model, "judges", 0),
    )


def _value(one: Interval) -> float | None:
    return None if one is None else one["value"]
