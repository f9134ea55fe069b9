"""The family tree of policies as a picture beside a list, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import render

from plumbline.loop import family, lineage
from plumbline.loop.family import Edge, Place
from plumbline.loop.models import Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy

A_PAGE = 40
ROW, LANE, MARGIN = 68, 18, 14  # pixels: a row's height, between lanes, beside the first


@dataclass(frozen=True)
class Row:
    """A policy in the list, at (x, y) in the picture."""

    place: Place
    x: int
    y: int
    round: Round | None
    votes: int
    prompts: int
    aliases: list[str]
    tainted: bool


def tree(request: PlumblineRequest) -> HttpResponse:
    """The newest policies first. Checkpoints that were not chosen are counted, and left out."""
    whole = lineage.graph(request.project)
    made = {one.policy_out_id: one for one in whole.rounds.values() if one.policy_out_id}
    every = list(
        Policy.objects.filter(project=request.project)
        .exclude(state=Policy.State.MIXTURE)
        .select_related("parent")
        .order_by("-created_at", "-pk")
    )
    used = {one.parent_id for one in every}
    shown = [one for one in every if one.pk in made or one.pk in used or one.weights == "base"]
    deployments = list(Deployment.objects.filter(project=request.project))
    current = next((one.policy_id for one in deployments if one.alias == serving.CURRENT), None)
    places, edges = family.lay_out(shown, current)
    page = Paginator(places, A_PAGE).get_page(request.GET.get("page"))
    here = list(page.object_list)
    first = here[0].row if here else 0
    tainted = {one.round.policy_out_id for one in lineage.tainted(request.project, whole=whole)}
    counts = _counts([made[one.policy.pk].pk for one in here if one.policy.pk in made])
    rows = []
    for one in here:
        round = made.get(one.policy.pk)
        votes, prompts = counts.get(round.pk, (0, 0)) if round else (0, 0)
        aliases = [a.alias for a in deployments if a.policy_id == one.policy.pk]
        x, y = _x(one.lane), _y(one.row - first)
        rows.append(Row(one, x, y, round, votes, prompts, aliases, one.policy.pk in tainted))
    context: dict[str, Any] = {
        "page": page,
        "rows": rows,
        "paths": [_path(one, first, len(here)) for one in edges if _is_seen(one, first, len(here))],
        "width": _x(max((one.lane for one in places), default=0)) + MARGIN,
        "height": ROW * len(here),
        "left_out": len(every) - len(shown),
        "current": current,
    }
    return render(request, "lab/lineage.html", context)


def _counts(rounds: list[int]) -> dict[int, tuple[int, int]]:
    """Votes frozen and prompts, by round."""
    frozen = Round.ballots.through.objects.filter(round__in=rounds).values_list("round")
    asked = Round.prompts.through.objects.filter(round__in=rounds).values_list("round")
    votes, prompts = (dict(one.annotate(n=Count("pk")).order_by()) for one in (frozen, asked))
    return {pk: (votes.get(pk, 0), prompts.get(pk, 0)) for pk in rounds}


def _is_seen(edge: Edge, first: int, count: int) -> bool:
    return edge.child.row < first + count and edge.parent.row >= first


def _path(edge: Edge, first: int, count: int) -> dict[str, Any]:
    """Down the child's lane, and over to the parent's in the last row's height; cut off at the ends
    of the page."""
    top = max(_y(edge.child.row - first), 0)
    x, end = _x(edge.child.lane), _x(edge.parent.lane)
    bottom = _y(edge.parent.row - first)
    if edge.parent.row >= first + count:
        drawn = f"M{x} {top}V{ROW * count}"
    else:
        turn = max(bottom - ROW // 2, top)
        drawn = f"M{x} {top}V{turn}C{x} {bottom} {end} {turn} {end} {bottom}"
    return {"d": drawn, "main": edge.child.main}


def _x(lane: int) -> int:
    return MARGIN + LANE * lane


def _y(row: int) -> int:
    return ROW * row + ROW // 2
