"""The launch form: derived from the algorithms, filled by presets and clones, with an estimate.

One URL shows it and launches; a second one answers, while somebody fills it in, what it would take
and how it differs from its presets and from what it was cloned from. Neither keeps anything until
the launch.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import transaction
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render

from plumbline.loop import cloning, forms, presets, rewarding, rounds
from plumbline.loop import estimate as estimating
from plumbline.loop.cloning import Clone
from plumbline.loop.forms import ExperimentForm
from plumbline.permissions import PlumblineRequest

PAGE = "lab/experiment_new.html"
BOXES = ("warm_start", "activation_checkpointing", "autopilot", *rewarding.BOXES)


def new(request: PlumblineRequest) -> HttpResponse:
    """The launch form. Saving it begins round 1; switching the algorithm swaps the knobs."""
    if request.method == "POST":
        return _launch(request)
    values, clone = _initial(request)
    form = ExperimentForm(request.project, initial=values)
    filled = None
    if name := request.GET.get("preset", ""):
        offers = {one.name: one for one in presets.offers(form)}
        filled = offers.get(name)
        form = ExperimentForm(request.project, initial=values | presets.values(form, name))
    name = PAGE
    if request.htmx:
        name += "#reward" if request.htmx.target == "reward" else "#knobs"
    return render(request, name, _context(form, clone) | {"filled": filled})


def estimate(request: PlumblineRequest) -> HttpResponse:
    """What the form as it stands would take, and where it differs; for htmx, as it changes."""
    form = ExperimentForm(request.project, request.POST)
    clone = cloning.find(request.project, request.POST.get("copied", ""))
    return render(request, f"{PAGE}#changes", _context(form, clone))


def _launch(request: PlumblineRequest) -> HttpResponse:
    form = ExperimentForm(request.project, request.POST)
    if form.is_valid():
        try:
            with transaction.atomic():
                saved = form.save(request.user)
                rounds.begin(saved)
        except ValueError as error:
            form.add_error(NON_FIELD_ERRORS, str(error))
        else:
            messages.success(request, f"{saved.name} is under way: round 1 has begun.")
            for warning in form.warnings():
                messages.warning(request, warning)
            return redirect("experiment", project=request.project.slug, pk=saved.pk)
    clone = cloning.find(request.project, request.POST.get("copied", ""))
    return render(request, PAGE, _context(form, clone), status=422)


def _context(form: ExperimentForm, clone: Clone | None) -> dict[str, Any]:
    """What the page and its parts show. The estimate is of the values as a launch would read them,
    whether they were typed or are the ones that the form begins with."""
    bound = form if form.is_bound else ExperimentForm(form.project, forms.as_data(form))
    bound.is_valid()
    found = estimating.of(form.project, _values(bound), bound.base_model())
    return {
        "form": form,
        "offers": presets.offers(form),
        "estimate": found,
        "waits": [bound.fields[name].label for name in found.waits],
        "clone": clone,
        "differences": cloning.differences(form, clone) if clone else [],
    }


def _values(bound: ExperimentForm) -> dict[str, Any]:
    """Cleaned values, with the campaign that a choice stands for."""
    data = bound.cleaned_data
    return {**data, "asked_as": bound.campaigns.get(data.get("asked_as", ""))}


def _initial(request: PlumblineRequest) -> tuple[dict[str, Any], Clone | None]:
    """What the form begins with: an experiment (`like`) or a round (`like_round`) to repeat, or
    fields in the address, which may say what they were cloned from (`copied`)."""
    for asked, what in (("like", "experiment"), ("like_round", "round")):
        if (pk := request.GET.get(asked, "")).isdecimal():
            clone = cloning.find(request.project, f"{what}-{pk}")
            if clone is None:
                raise Http404
            return clone.values, clone
    return _typed(request.GET), cloning.find(request.project, request.GET.get("copied", ""))


def _typed(query: QueryDict) -> dict[str, Any]:
    """Fields typed so far; without scripts, showing another algorithm's knobs sends them all.

    Knobs are left out: the same name means another thing to another algorithm.
    """
    typed: dict[str, Any] = {
        name: query[name] for name in ExperimentForm.base_fields if name in query
    }
    if len(typed) > 1:  # a whole form: an absent tick box is a cleared one
        typed |= {name: name in query for name in BOXES}
    return typed
