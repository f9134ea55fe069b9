"""Workers: who lives, what each does and since when, what waits, what hosts and engines have left.

Machines are shared by all projects. What belongs to another project is shown as work without a
name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from plumbline.fleet import presence
from plumbline.fleet.models import Job, Worker
from plumbline.permissions import PlumblineRequest
from plumbline.policies import engines, serving
from plumbline.policies.models import Deployment, Loan, Reload

PATIENCE = 3.0  # seconds an engine has to say what it serves


@dataclass(frozen=True)
class Meter:
    """How full something is; `share` from 0 to 1, None where that is not known."""

    title: str
    words: str
    share: float | None


@dataclass(frozen=True)
class Engine:
    """What an engine said of itself."""

    url: str
    trouble: str
    serves: int = 0
    sleeps: bool = False
    lacks: str = ""  # the name of an alias's policy that it does not serve


def workers(request: PlumblineRequest) -> HttpResponse:
    """The page; for htmx the part that changes."""
    now = timezone.now()
    seen = presence.workers()
    context = {
        "workers": [_worker(one, request, now) for one in seen],
        "queues": [(one, _since(one.oldest, now)) for one in presence.queues(seen, now)],
        "hosts": _hosts(seen, request, now),
        "silent": presence.SILENT.total_seconds(),
    }
    name = "lab/workers.html#live" if request.htmx else "lab/workers.html"
    return render(request, name, context)


def engine_state(request: PlumblineRequest) -> HttpResponse:
    """How the engines are, asked now: a part of its own, as one that hangs takes its time."""
    current = (
        Deployment.objects.filter(project=request.project, alias=serving.CURRENT)
        .select_related("policy")
        .first()
    )
    name = serving.engine_name(current.policy) if current else ""
    found = engines.each(engines.urls(), lambda url: _engine(url, name))
    context = {
        "engines": found,
        "loan": Loan.objects.order_by("pk").first(),
        "reload": Reload.objects.filter(until__gt=timezone.now()).first(),
    }
    return render(request, "lab/workers_engines.html", context)


def _engine(url: str, wanted: str) -> Engine:
    """Runs beside others of its kind, without the database."""
    try:
        cards = engines.cards(url, PATIENCE)
    except engines.EngineError as error:
        return Engine(url, str(error))
    try:
        told = engines.call(url, "GET", "/is_sleeping", None, PATIENCE)
    except engines.EngineError:  # one that cannot sleep has no such address
        told = {}
    lacks = wanted if wanted and wanted not in cards else ""
    return Engine(url, "", len(cards), bool(told.get("is_sleeping")), lacks)


def _worker(one: Worker, request: PlumblineRequest, now: datetime) -> dict[str, Any]:
    job = one.job if one.job is not None and one.job.state == Job.State.RUNNING else None
    return {
        "worker": one,
        "alive": presence.alive(one, now),
        "silent": _since(one.seen_at, now),
        "up": _since(one.started_at, now),
        "job": job,
        "ours": job is not None and job.project_id == request.project.pk,
        "busy": _since(job.started_at, now) if job else None,
    }


def _hosts(
    seen: Sequence[Worker], request: PlumblineRequest, now: datetime
) -> list[tuple[str, list[Meter]]]:
    """Each host with a worker that lives, by the newest that one of them said of it."""
    newest: dict[str, Worker] = {}
    for one in sorted(seen, key=lambda worker: worker.seen_at):
        if presence.alive(one, now):
            newest[one.host] = one
    claimed = presence.claimed()
    return [(name, _meters(one.facts, claimed, request)) for name, one in sorted(newest.items())]


def _meters(
    facts: Mapping[str, Any], claimed: Mapping[str, Job], request: PlumblineRequest
) -> list[Meter]:
    found = []
    cpus, load = facts.get("cpus"), facts.get("load")
    if cpus and load is not None:
        found.append(Meter("Processors", f"load {load:g} on {cpus}", min(1.0, load / cpus)))
    if memory := facts.get("memory"):
        found.append(_memory("Memory", memory))
    for place, gpu in enumerate(facts.get("gpus", [])):
        name = f"GPU {place}, {gpu['name']}"
        job = claimed.get(gpu["uuid"])
        work = "" if job is None else _whose(job, request)
        found.append(_memory(f"{name}: memory", gpu["memory"], work))
        if gpu["use"] is not None:
            found.append(Meter(f"{name}: use", f"{100 * gpu['use']:.0f} %", gpu["use"]))
    return found


def _whose(job: Job, request: PlumblineRequest) -> str:
    ours = job.project_id == request.project.pk
    return f", {job.title}" if ours else ", a job of another project"


def _memory(title: str, memory: Sequence[int | None], work: str = "") -> Meter:
    used, total = memory
    if used is None or not total:
        return Meter(title, f"not told{work}", None)
    return Meter(title, f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB{work}", used / total)


def _since(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
