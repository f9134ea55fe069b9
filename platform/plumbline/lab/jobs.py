"""Jobs: what the fleet was asked to do, how far it is, and what it last said."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.gzip import gzip_page
from django_htmx.http import HttpResponseStopPolling

from align.jobs import STDERR
from plumbline.audit.record import record
from plumbline.fleet import devices, dispatch, supervise
from plumbline.fleet.models import Job
from plumbline.lab import curves as drawing
from plumbline.lab import timeline
from plumbline.loop.models import RoundJob
from plumbline.permissions import PlumblineRequest

A_PAGE = 50
TAIL_LINES = 200
TAIL_BYTES = 32_768
STOP = HttpResponseStopPolling.status_code


def jobs(request: PlumblineRequest) -> HttpResponse:
    """All jobs of the project, newest first, or those in one state."""
    everything = Job.objects.filter(project=request.project)
    state = request.GET.get("state", "")
    chosen = everything.filter(state=state) if state in Job.State.values else everything
    counts = dict(everything.order_by().values_list("state").annotate(Count("pk")))
    page = Paginator(
        chosen.select_related("asked_by__round__experiment").order_by("-created_at"), A_PAGE
    ).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "state": state if state in Job.State.values else "",
        "states": [(value, label, counts.get(value, 0)) for value, label in Job.State.choices],
        "total": sum(counts.values()),
        "busy": any(not job.over for job in page.object_list),
    }
    name = "lab/jobs.html#list" if request.htmx and not request.htmx.boosted else "lab/jobs.html"
    return render(request, name, context)


def job(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """One job: its exact command and description, progress, events, curves and last words."""
    found = _find(request, pk)
    context: dict[str, Any] = {
        "job": found,
        "asked": RoundJob.objects.filter(job=found).select_related("round__experiment").first(),
        "work": timeline.work(found, "Progress"),
        "events": list(found.events.order_by("-id")[:100]),
        "tail": tail(found.folder / STDERR),
    }
    if request.htmx:
        return render(request, "lab/job.html#live", context)
    command = supervise.program(found, devices.asked(found) or 1)
    context["command"] = " ".join(["python", *command[1:]])
    context["charts"] = drawing.charts([(found.kind, found)])
    return render(request, "lab/job.html", context)


def log(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """The last lines of the child's output, live; a poll is told to stop once the job is over."""
    found = _find(request, pk)
    context = {"job": found, "tail": tail(found.folder / STDERR)}
    status = STOP if found.over and request.htmx else 200
    return render(request, "lab/log_tail.html", context, status=status)


@gzip_page
def curves(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """The job's curves as JSON; a poll is told to stop once the job is over."""
    found = _find(request, pk)
    return curves_response(request, [(found.kind, found)], found.over)


def curves_response(
    request: PlumblineRequest, asked: list[tuple[str, Job]], over: bool
) -> HttpResponse:
    """Curves of jobs; 304 when the browser has these already, 286 ends htmx's polling."""
    etag = f'"{drawing.version([one for _, one in asked])}-{over:d}"'
    if request.headers.get("If-None-Match", "").removeprefix("W/") == etag:
        return HttpResponse(status=HTTPStatus.NOT_MODIFIED)
    charts = [chart.json() for chart in drawing.charts(asked)]
    response = JsonResponse(
        {"over": over, "charts": charts}, status=STOP if over and request.htmx else 200
    )
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    return response


def cancel(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    found = _find(request, pk)
    if found.over:
        messages.info(request, "This job was over already.")
    else:
        with transaction.atomic():
            dispatch.cancel(found)
            record("job.cancelled", found, project=request.project)
        messages.success(request, "The job was told to stop.")
    return redirect("job", project=request.project.slug, pk=found.pk)


def tail(path: Path) -> str:
    """The last lines of a log; "" when there is none. Reads its end only, however long it is."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-TAIL_LINES:])


def _find(request: PlumblineRequest, pk: UUID) -> Job:
    return get_object_or_404(Job, project=request.project, pk=pk)
