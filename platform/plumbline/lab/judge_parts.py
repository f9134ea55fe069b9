"""What judges are made of: endpoints and constitutions; and what they wrote: revised answers."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.collect.models import Campaign, Completion
from plumbline.judges import constitutions, endpoints, judges, revising
from plumbline.judges.models import Constitution, Endpoint, Principle, Revising
from plumbline.lab.judge_forms import EndpointForm, PrincipleForm, RevisionsForm
from plumbline.lab.judges import find
from plumbline.permissions import PlumblineRequest

A_PAGE = 10


def endpoint_list(request: PlumblineRequest) -> HttpResponse:
    """The project's endpoints with their last check; admins add them here."""
    form = EndpointForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = endpoints.add(request.project, **form.cleaned_data)
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{made} is there. Check it with a question.")
            return redirect("judge-endpoints", request.project.slug)
    found = Endpoint.objects.filter(project=request.project).order_by("retired_at", "name")
    rows = [(one, one.checks.select_related("job").first()) for one in found]
    rows.sort(key=lambda row: row[0].retired_at is not None)
    busy = any(check is not None and not check.job.over for _, check in rows)
    context = {"rows": rows, "form": form, "busy": busy}
    name = "lab/judge_endpoints.html"
    if request.htmx and request.htmx.target == "endpoints":
        return render(request, f"{name}#list", context)
    return render(request, name, context, status=422 if form.is_bound else 200)


def endpoint_check(request: PlumblineRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Endpoint, project=request.project, pk=pk)
    try:
        endpoints.check(found)
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("judge-endpoints", request.project.slug)


def endpoint_retire(request: PlumblineRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Endpoint, project=request.project, pk=pk)
    endpoints.retire(found)
    messages.success(request, f"{found} is retired: nothing asks it any more.")
    return redirect("judge-endpoints", request.project.slug)


def constitution_list(request: PlumblineRequest) -> HttpResponse:
    if request.method == "POST":
        try:
            made = constitutions.add(request.project, request.POST.get("name", ""))
        except ValueError as error:
            messages.error(request, str(error))
            return redirect("judge-constitutions", request.project.slug)
        return redirect("judge-constitution", request.project.slug, made.pk)
    found = Constitution.objects.filter(project=request.project).prefetch_related("principles")
    return render(request, "lab/judge_constitutions.html", {"rows": found})


def constitution(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Its principles; a POST adds one."""
    found = get_object_or_404(
        Constitution.objects.prefetch_related("principles"), project=request.project, pk=pk
    )
    form = PrincipleForm(request.POST or None, initial={"weight": 1, "active": True})
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            constitutions.state(found, data["text"], data["weight"])
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            return redirect("judge-constitution", request.project.slug, found.pk)
    shares = constitutions.shares(found)
    context = {
        "constitution": found,
        "rows": [(one, shares.get(one.pk)) for one in found.principles.all()],
        "form": form,
        "outdated": constitutions.outdated(found),
    }
    status = 422 if form.is_bound else 200
    return render(request, "lab/judge_constitution.html", context, status=status)


def principle(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Change a principle, its weight, or whether it counts."""
    found = get_object_or_404(
        Principle.objects.select_related("constitution"),
        constitution__project=request.project,
        pk=pk,
    )
    now = {"text": found.text, "weight": found.weight, "active": found.active}
    form = PrincipleForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            constitutions.change(found, data["text"], data["weight"], active=data["active"])
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            messages.success(
                request, "Kept. Judges go by it from their next version on; this changes none."
            )
            return redirect("judge-constitution", request.project.slug, found.constitution_id)
    context = {"principle": found, "form": form}
    status = 422 if form.is_bound else 200
    return render(request, "lab/judge_principle.html", context, status=status)


def revise(request: PlumblineRequest, judge: int) -> HttpResponse:
    """Have a judge's model revise answers."""
    found = find(request, judge)
    form = RevisionsForm(request.project, request.POST)
    if form.is_valid():
        data = form.cleaned_data
        source: Campaign = data["campaign"]
        answers = Completion.objects.filter(
            pk__in=source.comparisons.order_by().values("candidates")
        ).select_related("prompt")
        try:
            if found.retired_at is not None:
                raise ValueError(f"{found} is retired.")
            made = revising.ask(
                judges.current(found),
                list(answers.order_by("-created_at", "pk")[: data["count"]]),
                data["name"],
                max_dollars=data["dollars"],
                by=request.user,
            )
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "The answers are being revised.")
            return redirect("judge-revisions", request.project.slug, made.pk)
    for sentence in [one for listed in form.errors.values() for one in listed]:
        messages.error(request, str(sentence))
    return redirect("judge", request.project.slug, found.pk)


def revisions(request: PlumblineRequest, pk: int) -> HttpResponse:
    """What came of a job of revisions: originals, critiques, revised answers."""
    found = _revising(request, pk)
    rows = found.revisions.select_related("original__prompt", "revised", "comparison")
    page = Paginator(rows, A_PAGE).get_page(request.GET.get("page"))
    return render(request, "lab/judge_revisions.html", {"revising": found, "page": page})


def include(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Let rounds learn from revised answers, or no longer."""
    found = _revising(request, pk)
    wanted = request.POST.get("included") == "yes"
    revising.include(found, included=wanted)
    words = "Rounds may learn from these from now on." if wanted else "No round learns from these."
    messages.success(request, words)
    return redirect("judge-revisions", request.project.slug, found.pk)


def _revising(request: PlumblineRequest, pk: int) -> Revising:
    rows = Revising.objects.select_related("version__judge", "job", "campaign")
    return get_object_or_404(rows, version__judge__project=request.project, pk=pk)
