"""The usage page: what each key and policy of a project was asked for, day by day, and its cost."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render

from plumbline.accounts.forms import PricesForm
from plumbline.accounts.models import ApiKey, Project
from plumbline.audit.record import record
from plumbline.gateway import usage
from plumbline.gateway.usage import Figures
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import Policy

PERIODS = (7, 30, 90)
COLUMNS = ("day", "key", "prefix", "policy", "requests", "errors", "tokens_in", "tokens_out")
CHAT = "chat"  # in place of a key: what members asked on the chat page
UNSAFE = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run what begins with these


@dataclass
class Asked:
    """What the page's address asks to see; what it does not understand, it leaves out."""

    project: Project
    days: int = 30
    wanted: dict[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> date:
        return datetime.now(UTC).date()

    @property
    def first(self) -> date:
        return self.last - timedelta(days=self.days - 1)

    def grouped(self, *by: str) -> list[tuple[tuple[Any, ...], Figures]]:
        return usage.grouped(self.project, self.first, self.last, by, **self.wanted)


def _asked(request: PlumblineRequest) -> Asked:
    asked = Asked(request.project)
    days, key = request.GET.get("days", ""), request.GET.get("key", "")
    if days in map(str, PERIODS):
        asked.days = int(days)
    if key.isascii() and key.isdigit() and len(key) < 18:
        asked.wanted["api_key"] = int(key)
    elif key == CHAT:
        asked.wanted["api_key"] = None
    with contextlib.suppress(ValueError):
        asked.wanted["policy"] = UUID(request.GET.get("policy", ""))
    return asked


def usage_page(request: PlumblineRequest) -> HttpResponse:
    return _page(request, PricesForm(instance=request.project))


def _page(request: PlumblineRequest, form: PricesForm, status: int = 200) -> HttpResponse:
    asked = _asked(request)
    project = request.project
    total = next((one for _, one in asked.grouped()), Figures())
    context = {
        "asked": asked,
        "periods": PERIODS,
        "keys": ApiKey.objects.filter(project=project).order_by("name"),
        "policies": Policy.objects.filter(project=project).order_by("name"),
        "total": total,
        "tables": [
            ("Key", asked.grouped("api_key__name", "api_key__prefix", "user__username")),
            ("Policy", asked.grouped("policy__name")),
            ("Day", asked.grouped("day")[::-1]),
        ],
        "form": form,
        "query": request.GET.urlencode(),
        "priced": total.cost is not None,
    }
    return render(request, "gateway/usage.html", context, status=status)


def prices(request: PlumblineRequest) -> HttpResponse:
    form = PricesForm(request.POST, instance=Project.objects.get(pk=request.project.pk))
    if not form.is_valid():
        return _page(request, form, status=422)
    with transaction.atomic():
        form.save()
        record(
            "prices.changed", request.project, project=request.project, changed=form.changed_data
        )
    messages.success(
        request,
        "Saved. Costs are worked out anew, those of past days too; the gateway goes by the limits "
        "within two seconds.",
    )
    return redirect("usage", request.project.slug)


def charts(request: PlumblineRequest) -> JsonResponse:
    """The figures of each day as `charts.js` draws them; days without requests are zero."""
    asked = _asked(request)
    by_day = {day: figures for (day,), figures in asked.grouped("day")}
    days = [asked.first + timedelta(days=i) for i in range(asked.days)]
    figures = [by_day.get(day, Figures()) for day in days]
    drawn = [
        _chart("requests", "Requests", days, figures, ["requests", "errors"]),
        _chart("tokens", "Tokens", days, figures, ["prompt_tokens", "completion_tokens"]),
        _chart("latency", "Milliseconds to the end of an answer", days, figures, ["p50", "p95"]),
    ]
    return JsonResponse({"charts": drawn})


NAMES = {"prompt_tokens": "in", "completion_tokens": "out"}


def _chart(
    key: str, title: str, days: list[date], figures: list[Figures], names: list[str]
) -> dict[str, Any]:
    columns = {name: [getattr(one, name) for one in figures] for name in names}
    series = [
        {"name": NAMES.get(name, name), "mean": values, "low": values, "high": values}
        for name, values in columns.items()
    ]
    labels = [f"{day:%d %b}" for day in days]
    rows = [[label, list(values)] for label, *values in zip(labels, *columns.values(), strict=True)]
    return {
        "key": key,
        "title": title,
        "job": f"{len(days)} days",
        "summary": f"{title} of {len(days)} days; the figures are in the tables.",
        "steps": list(range(len(days))),
        "labels": labels,
        "unit": "Day",
        "series": series,
        "rows": rows,
    }


def download(request: PlumblineRequest) -> HttpResponse:
    """A line for each day, key and policy."""
    asked = _asked(request)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"usage-{request.project.slug}-{asked.first}-{asked.last}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    csv.writer(response).writerows(_lines(asked))
    return response


def _lines(asked: Asked) -> Iterable[list[Any]]:
    project = asked.project
    priced = project.price_in is not None and project.price_out is not None
    cost = [f"cost_{project.currency.lower()}"] if priced else []
    yield [*COLUMNS, "p50_ms", "p95_ms", *cost]
    by = ("day", "api_key__name", "api_key__prefix", "user__username", "policy__name")
    for (day, key, prefix, user, policy), one in asked.grouped(*by):
        counts = [one.requests, one.errors, one.prompt_tokens, one.completion_tokens]
        whose = [f"Chat: {user}", ""] if key is None else [_plain(key), f"plk_{prefix}"]
        line = [day, *whose, _plain(policy), *counts, one.p50, one.p95]
        yield [*line, f"{one.cost:.6f}"] if one.cost is not None else line


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(UNSAFE) else text
