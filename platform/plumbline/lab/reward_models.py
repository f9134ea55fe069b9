"""A reward model's page: how well it foretells votes it never saw, and whether it may judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render

from align.ensemble import Ensemble
from plumbline.loop import tastes
from plumbline.loop.models import Round
from plumbline.loop.quality import SLICES
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import RewardModel

SIDE, EDGE = 220, 30  # the reliability curve's square, and the room for its figures
READINGS = {
    "mean": "their mean",
    "worst": "the worst of them",
    "uncertainty": "their mean less a penalty on disagreement",
    "nominal": "the least doubtful and the worst, mixed",
}
ABSENT = {
    "people": "One prompt and one annotator in ten are held out; none of them has votes yet.",
    "test": "One prompt in twenty, by which nothing is tuned; none of them has votes yet.",
    "prompts": "One prompt in twenty; none of them has votes yet.",
    "annotators": "One annotator in ten, once five have voted; none of them has votes yet.",
}


@dataclass(frozen=True)
class Point:
    """A bin of the reliability curve, in figures and where it is drawn."""

    confidence: float
    share: float
    votes: float
    x: str
    y: str
    size: str


def reward_model(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    model = get_object_or_404(RewardModel, project=request.project, pk=pk)
    measured = model.metrics.get("measured", {})
    made = _made_in(model)
    how = Ensemble(**made.experiment.reward_ensemble) if made else Ensemble()
    context = {
        "model": model,
        "measured": measured,
        "slices": slices(measured.get("slices", [])),
        "people": _named(measured, "people"),
        "curve": curve(measured.get("reliability", [])),
        "raw_curve": curve(measured.get("reliability_raw", [])),
        "side": SIDE,
        "edge": EDGE,
        "whole": SIDE + 2 * EDGE,
        "gate": model.metrics.get("gate"),
        "previous": _previous(measured),
        "on_policy": _by_round(model.metrics.get("on_policy", {})),
        "implicit": _by_round(model.metrics.get("implicit", {})),
        "made": made,
        "members": how.members,
        "reading": READINGS[how.reading],
        "tastes": tastes.of(model),
        "rounds": list(model.rounds.select_related("experiment").order_by("number")),
    }
    return render(request, "lab/reward_model.html", context)


def slices(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every slice that has figures, and those of which one should know why they have none."""
    figures = {one["name"]: one for one in found}
    return [
        {"name": name, "title": title, **figures.get(name, {"absent": ABSENT.get(name)})}
        for name, title in SLICES.items()
        if name in figures or name in ABSENT
    ]


def curve(bins: list[dict[str, float]]) -> list[Point]:
    """Bins as points: confidence to the right and share upwards, both from a half to one; a point's
    area grows with its votes. Shares below a half are drawn on the lower edge."""
    most = max((one["weight"] for one in bins), default=1.0)
    return [
        Point(
            confidence=one["confidence"],
            share=one["share"],
            votes=one["weight"],
            x=f"{EDGE + _place(one['confidence']):.1f}",
            y=f"{EDGE + SIDE - _place(one['share']):.1f}",
            size=f"{3 + 6 * (one['weight'] / most) ** 0.5:.1f}",
        )
        for one in bins
    ]


def _named(measured: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((one for one in measured.get("slices", []) if one["name"] == name), None)


def _place(value: float) -> float:
    return SIDE * min(1.0, max(0.0, 2 * value - 1))


def _made_in(model: RewardModel) -> Round | None:
    """The round that trained it, whether or not that round went on with it."""
    return (
        Round.objects.filter(
            experiment__project=model.project, figures__reward_gate__candidate=str(model.pk)
        )
        .select_related("experiment", "reward_model")
        .first()
    )


def _by_round(found: dict[str, Any]) -> list[tuple[int, Any]]:
    return sorted(((int(number), one) for number, one in found.items()), key=lambda row: row[0])


def _previous(measured: dict[str, Any]) -> dict[str, Any] | None:
    """What changed against the model before it, with a link where that one still exists."""
    found: dict[str, Any] | None = measured.get("previous")
    if found is None:
        return None
    return {**found, "exists": RewardModel.objects.filter(pk=found["model"]).exists()}
