"""Policies side by side: who beats whom by which judge, and what each gained for its KL.

The policies, the judge and the scale are in the address, so a link shows the same to others.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import render

from align.measure.ratings import Meeting
from plumbline.accounts.models import Project
from plumbline.lab.cells import plain
from plumbline.lab.panels import Panel, panel
from plumbline.loop import best_of, frontier, meetings, standings
from plumbline.loop.frontier import Checkpoints, Frontier, Series
from plumbline.loop.standings import Met, Standing, Standings
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy

MOST = meetings.MOST
NEWEST = 8  # policies that are looked at where the address names none
OFFERED = 200  # to choose from, the newest first
PARTS = ("matrix", "ratings", "frontier", "best-of-n")


@dataclass
class Asked:
    """What an address asks for; `faults` are sentences about what it asks wrongly."""

    policies: list[Policy]
    anchor: Policy | None
    judge: str
    root: bool
    base: Policy | None  # KL and gains are measured from
    faults: list[str]


def compare(request: PlumblineRequest) -> HttpResponse:
    asked = read(request)
    context: dict[str, Any] = {
        "asked": asked,
        "judges": [(key, title) for key, title in meetings.JUDGES.items()],
        "offered": _offered(request),
        "chosen": {one.pk for one in asked.policies},
        "most": MOST,
        "query": request.GET.urlencode(),
        "judge_title": meetings.JUDGES[asked.judge],
    }
    if asked.anchor is not None and len(asked.policies) > 1:
        met = _met(asked)
        found = standings.standings(asked.policies, met, asked.anchor)
        front = frontier.frontier(request.project, asked.policies, asked.base or asked.anchor)
        context |= {
            "standings": found,
            "matrix": _matrix(found),
            "met": len(met),
            "front": front,
            "panels": _panels(front, asked.root),
            "best": best_of.frontiers(asked.policies),
        }
    return render(request, "lab/compare.html", context)


def download(request: PlumblineRequest, part: str) -> HttpResponse:
    """One of the page's tables as CSV: matrix, ratings, frontier or best-of-n."""
    asked = read(request)
    lines: Iterable[Sequence[Any]] = []
    if asked.anchor is not None and part in PARTS:
        if part in ("matrix", "ratings"):
            found = standings.standings(asked.policies, _met(asked), asked.anchor)
            lines = _matrix_lines(found) if part == "matrix" else _rating_lines(found)
        elif part == "frontier":
            lines = _frontier_lines(
                frontier.frontier(request.project, asked.policies, asked.base or asked.anchor)
            )
        else:
            lines = _best_lines(best_of.frontiers(asked.policies))
    if part not in PARTS:
        return HttpResponse(f"There is no table “{part}”.", status=404)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{part}-{asked.judge}.csv"'
    csv.writer(response).writerows(
        [plain(one) if isinstance(one, str) else "" if one is None else one for one in line]
        for line in lines
    )
    return response


def read(request: PlumblineRequest) -> Asked:
    """The policies an address names, else the newest and those that are served."""
    project, query = request.project, request.GET
    faults: list[str] = []
    wanted = []
    for text in query.getlist("policy"):
        try:
            wanted.append(UUID(text))
        except ValueError:
            faults.append(f"“{text}” is no policy's id.")
    wanted = list(dict.fromkeys(wanted))
    if len(wanted) > MOST:
        faults.append(f"At most {MOST} policies are looked at together; the first ones are shown.")
    found = Policy.objects.filter(project=project)
    by_pk = found.in_bulk(wanted[:MOST]) if wanted else {}
    if len(by_pk) < len(wanted[:MOST]):
        faults.append("Some of these policies are not in this project.")
    policies = [by_pk[pk] for pk in wanted if pk in by_pk] if wanted else _usual(project)
    judge = query.get("judge", meetings.PEOPLE)
    if judge not in meetings.JUDGES:
        faults.append(f"There is no judge “{judge}”; these are people's votes.")
        judge = meetings.PEOPLE
    return Asked(
        policies=policies,
        anchor=_anchor(policies, query.get("anchor", "")),
        judge=judge,
        root=query.get("x") != "kl",
        base=_base(project, policies),
        faults=faults,
    )


def _usual(project: Project) -> list[Policy]:
    """What is served, the base, and the newest that a round has measured."""
    served = set(
        Deployment.objects.filter(project=project, alias=serving.CURRENT).values_list(
            "policy", flat=True
        )
    )
    found = Policy.objects.filter(project=project)
    first = list(
        found.filter(Q(pk__in=served) | Q(weights=Policy.Weights.BASE)).order_by("created_at")[:3]
    )
    newest = (
        found.filter(made_by__evaluations__isnull=False)
        .exclude(pk__in=[one.pk for one in first])
        .distinct()
    )
    return [*first, *newest.order_by("-created_at")[:NEWEST]]


def _anchor(policies: list[Policy], asked: str) -> Policy | None:
    """Whom ratings are against: the one that was asked for, else a base, else the first."""
    named = next((one for one in policies if str(one.pk) == asked), None)
    base = next((one for one in policies if one.weights == Policy.Weights.BASE), None)
    return named or base or (policies[0] if policies else None)


def _base(project: Project, policies: list[Policy]) -> Policy | None:
    """The base model that these policies were trained from, as far as there is a row for it."""
    found = Policy.objects.filter(project=project, weights=Policy.Weights.BASE)
    models = {one.base_model for one in policies}
    return found.filter(base_model__in=models).order_by("created_at").first() or found.first()


def _offered(request: PlumblineRequest) -> list[Policy]:
    return list(Policy.objects.filter(project=request.project).order_by("-created_at")[:OFFERED])


def _met(asked: Asked) -> list[Meeting]:
    return meetings.meetings(asked.policies, asked.judge)


def _matrix(found: Standings) -> list[tuple[Standing, list[Met | None]]]:
    """Rows best first, with a cell for each policy in the same order; None for itself and where
    two never met."""
    order = [row.policy.pk for row in found.rows]
    return [
        (row, [found.cells.get((row.policy.pk, other)) for other in order]) for row in found.rows
    ]


def _panels(front: Frontier, root: bool) -> list[Panel]:
    drawn: list[Series] = [*front.series, *(_as_series(one) for one in front.checkpoints)]
    last = max((one.kl for series in drawn for one in series.points), default=1.0)
    return [panel(series, front.guards, root, last) for series in drawn]


def _as_series(found: Checkpoints) -> Series:
    title = f"Checkpoints of {found.round}, against its start"
    key = f"checkpoints-{found.round.pk}"
    return Series(key, title, "share", 0.5, found.points)


def _matrix_lines(found: Standings) -> Iterable[Sequence[Any]]:
    yield ["policy", "opponent", "wins", "ties", "losses", "rate", "low", "high", "votes"]
    for row, cells in _matrix(found):
        for other, met in zip(found.rows, cells, strict=True):
            if met is not None:
                one = met.outcome
                counts = [one.wins, one.ties, one.losses]
                yield [row.policy.name, other.policy.name, *counts, met.rate, *met.interval,
                       met.votes]  # fmt: skip


def _rating_lines(found: Standings) -> Iterable[Sequence[Any]]:
    yield ["policy", "meetings", "log_odds", "low", "high", "points", "points_low", "points_high",
           "raw_rate", "length_controlled_rate", "length_controlled_low",
           "length_controlled_high"]  # fmt: skip
    for row in found.rows:
        rating, equal = row.rating, row.controlled
        odds = [rating.value, rating.low, rating.high] if rating else [None] * 3
        points = [row.points, row.points_low, row.points_high]
        rates = [equal.raw, equal.rate, equal.low, equal.high] if equal else [None] * 4
        yield [row.policy.name, row.meetings, *odds, *points, *rates]


def _frontier_lines(front: Frontier) -> Iterable[Sequence[Any]]:
    yield ["figure", "policy", "kl", "value", "low", "high", "count", "direct"]
    for series in [*front.series, *(_as_series(one) for one in front.checkpoints)]:
        for one in series.points:
            yield [series.key, one.policy, one.kl, one.value, one.low, one.high, one.count,
                   one.direct]  # fmt: skip


def _best_lines(found: Sequence[best_of.Frontier]) -> Iterable[Sequence[Any]]:
    yield ["policy", "picked_by", "judged_by", "prompts", "n", "kl", "kl_bound", "gain", "low",
           "high", "gain_by_the_judge", "win_rate_by_the_judge"]  # fmt: skip
    for one in found:
        judge = one.other.name if one.other else ""
        for row in one.rows:
            yield [one.policy.name, one.model.name, judge, one.prompts, row.n, row.kl, row.bound,
                   row.gain, row.low, row.high, row.other, row.win_rate]  # fmt: skip
