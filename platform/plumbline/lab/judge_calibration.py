"""A judge beside people: figures with their intervals, where they differ, attacks; and asking."""

from __future__ import annotations

import csv
import math
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.judges import attacking, calibration, judges
from plumbline.judges.models import Calibration, Judge, JudgeVersion
from plumbline.lab.judges import find
from plumbline.lab.reward_models import EDGE, SIDE, curve
from plumbline.loop import calibrating
from plumbline.loop.fields import number, real
from plumbline.loop.models import RoundJudge
from plumbline.permissions import PlumblineRequest
from plumbline.policies.serving import EngineError

SHOWN = 12  # disputed pairs


class Ask(forms.Form):
    """How much may be asked of the judge."""

    most = number(
        "Comparisons, at most",
        "That people voted on; 300 or more make useful intervals.",
        least=1,
        most=10_000,
    )
    max_dollars = real("Dollars, at most", "0 is no cap.", least=0, most=1e6, required=False)


class Attempt(forms.Form):
    """How many attacks, and at what cost."""

    attacks = number(
        "Attacks", "0 is the whole corpus; each is two comparisons in both orders.",
        least=0, most=10_000,
    )  # fmt: skip
    max_dollars = real("Dollars, at most", "0 is no cap.", least=0, most=1e6, required=False)


def page(request: PlumblineRequest, judge: int) -> HttpResponse:
    """The newest calibration of the version asked for, or of the newest one."""
    found = find(request, judge)
    version = _version(request, found)
    rows = list(version.calibrations.defer("rows").select_related("job", "created_by"))
    under_way = next((one for one in rows if one.finished_at is None), None)
    done = next((one for one in rows if one.finished_at is not None and not one.error), None)
    attack = version.attacks.select_related("job").first()
    context: dict[str, Any] = {
        "judge": found,
        "version": version,
        "newest": judges.current(found),
        "under_way": under_way,
        "failed": rows[0] if rows and rows[0].error else None,
        "row": done,
        "attack": attack,
        "busy": under_way is not None or (attack is not None and attack.finished_at is None),
        "form": Ask(initial={"most": calibration.MOST, "max_dollars": 0}),
        "attempt": Attempt(initial={"attacks": 0, "max_dollars": 0}),
        "votes": calibrating.unseen(version).count(),
        "every": calibrating.ballots(request.project).count(),
    }
    if done is not None:
        context |= _figures(done)
    if request.htmx and not context["busy"]:
        response = HttpResponse()
        response["HX-Refresh"] = "true"  # what was awaited is there: the whole page is new
        return response
    template = "lab/judge_calibration.html" + ("#progress" if request.htmx else "")
    return render(request, template, context)


def calibrate(request: PlumblineRequest, judge: int) -> HttpResponse:
    found = find(request, judge)
    form = Ask(request.POST)
    if found.retired_at is not None:
        messages.error(request, f"{found} is retired; nothing asks it any more.")
    elif not form.is_valid():
        messages.error(request, str(next(iter(form.errors.values()))[0]))
    else:
        asked = {"most": form.cleaned_data["most"], "dollars": form.cleaned_data["max_dollars"]}
        try:
            row = calibrating.calibrate(
                judges.current(found),
                request.user,
                most=asked["most"],
                max_dollars=asked["dollars"] or 0.0,
            )
        except (ValueError, EngineError) as error:
            messages.error(request, str(error))
        else:
            _told(request, row)
    return redirect("judge-calibration", request.project.slug, found.pk)


def attack(request: PlumblineRequest, judge: int) -> HttpResponse:
    """Run the injection corpus on the newest version."""
    found = find(request, judge)
    form = Attempt(request.POST)
    if found.retired_at is not None:
        messages.error(request, f"{found} is retired; nothing asks it any more.")
    elif not form.is_valid():
        messages.error(request, str(next(iter(form.errors.values()))[0]))
    else:
        try:
            attacking.begin(
                judges.current(found),
                request.user,
                most=form.cleaned_data["attacks"],
                max_dollars=form.cleaned_data["max_dollars"] or 0.0,
            )
        except (ValueError, EngineError) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{found} is asked about attacked answers.")
    return redirect("judge-calibration", request.project.slug, found.pk)


def download(request: PlumblineRequest, judge: int) -> HttpResponse:
    """The reliability curves as CSV."""
    found = find(request, judge)
    row = calibration.newest(_version(request, found))
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="judge-{found.pk}-reliability.csv"'
    table = csv.writer(response)
    table.writerow(["curve", "sure", "right", "votes"])
    for name in ("raw", "calibrated"):
        for one in row.figures[name]["curve"] if row else ():
            table.writerow([name, one["confidence"], one["share"], one["weight"]])
    return response


def _figures(row: Calibration) -> dict[str, Any]:
    """What the page draws of a calibration."""
    figures = row.figures
    found: dict[str, Any] = {
        "figures": figures,
        "sure": 0.5 + figures["trusted"]["above"] if figures.get("trusted") else None,
        "since": calibrating.since(row),
        "used": RoundJudge.objects.filter(calibration=row).count(),
    }
    if not figures:
        return found
    disputed = calibration.disputed(Calibration.objects.get(pk=row.pk), SHOWN)
    texts = calibration.texts([one for one, _ in disputed])
    return found | {
        "curve": curve(figures["calibrated"]["curve"]),
        "raw_curve": curve(figures["raw"]["curve"]),
        "side": SIDE,
        "edge": EDGE,
        "whole": SIDE + 2 * EDGE,
        "coin": math.log(2),
        "disputed": [
            {
                "row": one,
                "p": p,
                "first": texts[one.first],
                "second": texts[one.second],
                "prompt": texts[one.first].prompt,
                "for_first": sum(vote == 1 for vote in one.votes),
                "for_second": sum(vote == 0 for vote in one.votes),
                "tied": sum(vote == 0.5 for vote in one.votes),
            }
            for one, p in disputed
            if one.first in texts and one.second in texts
        ],
    }


def _told(request: PlumblineRequest, row: Calibration) -> None:
    if row.finished_at is None:
        messages.success(request, f"{row.version} is asked about {row.pairs} pairs.")
    elif row.error:
        messages.error(request, row.error)
    elif not row.figures:
        messages.warning(request, row.gate["why"])
    else:
        messages.success(request, f"{row.version} is measured on {row.pairs} voted pairs.")


def _version(request: PlumblineRequest, judge: Judge) -> JudgeVersion:
    text = request.GET.get("version", "")
    if text.isascii() and text.isdigit() and len(text) < 9:
        return get_object_or_404(judge.versions, number=int(text))
    return judges.current(judge)
