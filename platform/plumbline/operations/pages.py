"""The health page: what `doctor` says of the services and what the last `verify` found.

For admins of any project, as machines are shared by all. Sentences of `verify` may name what
belongs to other projects, so they are shown where there is one project only, or to staff. Engines
are asked in a part of their own, since one that hangs takes its time.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import django
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from plumbline.accounts.models import Project
from plumbline.operations import diagnoses
from plumbline.operations.diagnosis import Diagnosis
from plumbline.operations.models import Verification
from plumbline.permissions import PlumblineRequest

SERVICES = ("database", "migrations", "redis", "loop", "workers", "clock", "disk", "home", "wishes")
ENGINES = ("engine", "vllm")
OLD = timedelta(days=1)  # a verification
STATES = {"ok": "pass", "look": "hold", "wrong": "fail"}  # of badges


@never_cache
def health(request: PlumblineRequest) -> HttpResponse:
    """The page; for htmx the part that changes."""
    lines = _lines(SERVICES)
    context = {
        "lines": lines,
        "wrong": [one for one in lines if one["said"].level == "wrong"],
        "look": [one for one in lines if one["said"].level == "look"],
        "versions": _versions(),
        **_verified(request),
    }
    name = "operations/health.html#live" if request.htmx else "operations/health.html"
    return render(request, name, context)


@never_cache
def engines(request: PlumblineRequest) -> HttpResponse:
    """A token of each engine, asked for now."""
    return render(request, "operations/health_engines.html", {"lines": _lines(ENGINES)})


def _lines(names: Iterable[str]) -> list[dict[str, Any]]:
    said: dict[str, Diagnosis] = {name: diagnoses.EVERY[name]() for name in names}
    return [{"name": name, "said": one, "state": STATES[one.level]} for name, one in said.items()]


def _verified(request: PlumblineRequest) -> dict[str, Any]:
    """What the last look found, and the last one that read every byte."""
    last = Verification.objects.first()
    if last is None:
        return {"last": None}
    whole = Verification.objects.filter(quick=False).first()
    found = [
        {"check": name, "seen": seen, "count": sum(one["check"] == name for one in last.findings)}
        for name, seen in last.checked.items()
    ]
    shown = request.user.is_staff or Project.objects.count() == 1
    return {
        "last": last,
        "whole": whole,
        "checks": found,
        "findings": last.findings if shown else [],
        "hidden": bool(last.findings) and not shown,
        "old": timezone.now() - last.started_at > OLD,
    }


def _versions() -> dict[str, str]:
    database = f"{connection.vendor} {'.'.join(map(str, connection.get_database_version()))}"
    return {
        "Plumbline": version("plumbline"),
        "Python": platform.python_version(),
        "Django": django.get_version(),
        "Database": database,
        "Celery": version("celery"),
    }
