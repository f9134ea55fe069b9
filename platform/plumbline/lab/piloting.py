"""An experiment's autopilot on its page: its state with the evidence, and its form."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.loop import autopilot, spending
from plumbline.loop.budget import BudgetForm
from plumbline.loop.models import Autopilot, Experiment, PilotChange, PilotDecision
from plumbline.permissions import PlumblineRequest

DECISIONS, CHANGES = 20, 20  # the latest, on the page


def pilot(request: PlumblineRequest, pk: int) -> HttpResponse:
    """What it decided, for htmx; and switching it on or off or changing its budget."""
    found = get_object_or_404(Experiment, project=request.project, pk=pk)
    if request.method != "POST":
        return render(request, "lab/autopilot.html#state", context(found))
    row = Autopilot.objects.filter(experiment=found).first()
    form = BudgetForm(found, row, request.POST)
    if not form.is_valid():
        shown = context(found) | {"budget": form, "experiment": found}
        return render(request, "lab/autopilot_page.html", shown, status=422)
    on = request.POST.get("switch") != "off"
    if autopilot.change(found, request.user, form.cleaned_data | {"on": on}):
        messages.success(request, _said(on))
    else:
        messages.info(request, "Nothing was changed: the autopilot had these settings.")
    return redirect("experiment", project=request.project.slug, pk=found.pk)


def next_round(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Begin the next round, whatever the autopilot says."""
    found = get_object_or_404(Experiment, project=request.project, pk=pk)
    try:
        begun = autopilot.begin_next(found)
    except ValueError as error:
        messages.error(request, str(error))
    except IntegrityError:  # the loop was faster
        messages.info(request, "The next round has begun already.")
    else:
        messages.success(request, f"Round {begun.number} has begun.")
    return redirect("experiment", project=request.project.slug, pk=found.pk)


def context(found: Experiment) -> dict[str, Any]:
    """What the autopilot's part of the experiment's page shows."""
    row = Autopilot.objects.filter(experiment=found).first()
    shown: dict[str, Any] = {"experiment": found, "pilot": row, "budget": BudgetForm(found, row)}
    last = found.rounds.order_by("-number").first()
    shown["waiting"] = last is not None and last.over and found.state != Experiment.State.PAUSED
    shown["next_number"] = (last.number if last else 0) + 1
    if row is None:
        return shown
    decisions = PilotDecision.objects.filter(experiment=found).select_related("round")
    changes = PilotChange.objects.filter(experiment=found).select_related("actor")
    shown["decisions"] = list(decisions[:DECISIONS])
    shown["newest"] = next(
        (one for one in shown["decisions"] if last and one.round_id == last.pk and last.over), None
    )
    shown["changes"] = [(one, _changed(one)) for one in changes[:CHANGES]]
    shown["spent"] = spending.of(found)
    return shown


def _said(on: bool) -> str:
    if on:
        return "The autopilot is on. It decides between rounds; what is under way goes on."
    return "The autopilot is off. The round under way goes on; the next one waits for you."


def _changed(one: PilotChange) -> list[tuple[str, Any, Any]]:
    """The settings that a change changed, by label."""
    labels = {name: field.label for name, field in BudgetForm.base_fields.items()}
    labels["on"] = "Autopilot"
    return [
        (str(labels.get(name, name)), one.before.get(name), value)
        for name, value in one.after.items()
        if one.before.get(name) != value
    ]
