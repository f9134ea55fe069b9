"""One reward program, two side by side, and what a researcher may do with one."""

from __future__ import annotations

import csv
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from align import program_diff
from plumbline.collect import queue
from plumbline.evolve import confirming, pictures, promoting, trials
from plumbline.evolve.models import Evolution, PanelPrompt, Pick, Program
from plumbline.evolve.pages import find
from plumbline.permissions import PlumblineRequest

MOST_PICKS = 12


def program(request: PlumblineRequest, pk: int, program: int) -> HttpResponse:
    """Its code, rubric and params, its report, and whether it may judge."""
    evolution = find(request, pk)
    row = get_object_or_404(
        _programs(evolution).select_related("good_parent__generation", "bad_parent__generation"),
        pk=program,
    )
    found = list(row.trials.select_related("created_by"))
    held = list(row.confirmations.select_related("policy", "incumbent__judge", "campaign"))
    last = next((one for one in held if one.finished_at is None), next(iter(held), None))
    context = {
        "evolution": evolution,
        "program": row,
        "title": f"Program {row}",
        "reward": row.reward if row.program else None,
        "traces": pictures.traces(row.report),
        "trials": found,
        "trial": next((one for one in found if one.finished_at), None),
        "trying": any(one.finished_at is None for one in found),
        "fresh": evolution.fresh_prompts,
        "confirmation": last,
        "confirming": last is not None and last.finished_at is None,
        "waiting": queue.tally(last.campaign) if last and last.campaign else None,
        "triable": row.status in trials.TRIED,
    }
    return render(request, "evolve/program.html", context)


def step(request: PlumblineRequest, pk: int, program: int) -> HttpResponse:
    """Try the program, make it a judge, launch a round that it labels, or retire it."""
    evolution = find(request, pk)
    row = get_object_or_404(_programs(evolution), pk=program)
    try:
        match request.POST.get("do"):
            case "try":
                trials.begin(row, request.user)
                messages.success(request, "The trial is under way: its scores are computed now.")
            case "confirm":
                confirming.begin(row, request.user)
                messages.success(request, "Fresh answers are drawn now; then people compare picks.")
            case "enough":
                confirming.enough(row)
                messages.success(request, "What was said will do; the win rate is worked out now.")
            case "promote":
                name = request.POST.get("name", "").strip() or f"{evolution.name}: program {row}"
                version = promoting.promote(row, name, request.user)
                messages.success(request, f"{version.judge} judges now.")
            case "round":
                made = promoting.try_out(row, request.user)
                messages.success(request, f"{made} is under way.")
                return redirect("experiment", request.project.slug, made.pk)
            case "retire":
                promoting.retire(row)
                messages.success(request, "Retired. What it said stays.")
            case _:
                raise ValueError("Say what is to be done.")
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("evolution-program", request.project.slug, evolution.pk, row.pk)


def compare(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Two programs: code, rubric, params, traces, and their picks side by side."""
    evolution = find(request, pk)
    offered = list(_programs(evolution).filter(scores__isnull=False).distinct())
    left, right = _asked(request, "a", offered, 0), _asked(request, "b", offered, -1)
    context: dict[str, Any] = {"evolution": evolution, "offered": offered, "a": left, "b": right}
    if left is not None and right is not None and left != right:
        context |= {
            "difference": program_diff.difference(left.reward, right.reward),
            "traces": [
                (left, pictures.traces(left.report)),
                (right, pictures.traces(right.report)),
            ],
            "picks": _picks(left, right),
        }
    return render(request, "evolve/compare.html", context)


def download(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Every component's figures of every program, a row each."""
    evolution = find(request, pk)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["content-disposition"] = f'attachment; filename="programs-{pk}.csv"'
    writer = csv.writer(response)
    names = ("max", "mean", "min", "std", "tau", "length", "variance", "bound")
    head = ["program", "status", "sha256", "component", *(f"best of {n}" for n in (1, 2, 4, 8, 16))]
    writer.writerow([*head, *names])
    for one in _programs(evolution).exclude(report={}):
        for trace in pictures.traces(one.report):
            by_n = dict(trace.values)
            points = [by_n.get(n, "") for n in (1, 2, 4, 8, 16)]
            told = [trace.figures.get(name) for name in names]
            name = _harmless(trace.name)
            writer.writerow([f"'{one}", one.status, one.sha256, name, *points, *told])
    return response


def _harmless(name: str) -> str:
    """A component's name, which a model wrote, so that no spreadsheet runs it."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


def _programs(evolution: Evolution) -> QuerySet[Program]:
    return Program.objects.filter(generation__evolution=evolution).select_related(
        "generation", "judge__judge"
    )


def _asked(
    request: PlumblineRequest, name: str, offered: list[Program], otherwise: int
) -> Program | None:
    """The program that the address names, if it is one of the session's."""
    wanted = request.GET.get(name, "")
    by_pk = {str(one.pk): one for one in offered}
    if wanted in by_pk:
        return by_pk[wanted]
    good = [one for one in offered if one.status == Program.Status.GOOD] or offered
    return good[otherwise] if good else None


def _picks(one: Program, other: Program) -> list[dict[str, Any]]:
    """Picks on the prompts that are ranked, those that differ first. Hidden prompts stay hidden."""
    evolution = one.generation.evolution
    shown = evolution.panel.exclude(role__in=PanelPrompt.UNSEEN).values("prompt")
    found = Pick.objects.filter(program__in=(one, other), prompt__in=shown)
    by_prompt: dict[int, dict[int, Pick]] = {}
    for pick in found.select_related("prompt", "completion"):
        by_prompt.setdefault(pick.prompt_id, {})[pick.program_id] = pick
    rows = [
        {
            "prompt": picks[one.pk].prompt,
            "a": picks[one.pk].completion,
            "b": picks[other.pk].completion,
            "same": picks[one.pk].completion_id == picks[other.pk].completion_id,
        }
        for picks in by_prompt.values()
        if {one.pk, other.pk} <= picks.keys()
    ]
    return sorted(rows, key=lambda row: bool(row["same"]))[:MOST_PICKS]
