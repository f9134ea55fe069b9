"""The table of all rounds: search, order, chosen columns, a baseline with deltas, saved views, CSV.

Everything is in the address, so a link shows another researcher the same table.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse

from plumbline.lab.cells import Cell, cell, plain, raw
from plumbline.loop import runs as reading
from plumbline.loop.models import OVER, Round, SavedView, Stage
from plumbline.loop.runs import Run
from plumbline.loop.runs_query import (
    COLUMNS,
    NAMED,
    NUMBERS,
    USUAL,
    Column,
    column,
    ordered,
    search,
)
from plumbline.permissions import PlumblineRequest

SIZES = (50, 200, 1000)
MOST_COMPARED = 10
MOST_COLUMNS = 16
NAME = SavedView._meta.get_field("name").max_length
KEPT = ("q", "columns", "sort", "baseline", "stage", "algorithm", "size")  # of an address in a view


@dataclass
class Table:
    """What an address asks to see; `faults` are sentences about what it asks wrongly."""

    found: list[Run]
    total: int
    columns: list[Column]
    sort: Column | None
    down: bool
    baseline: Run | None
    settings: list[str]
    algorithms: list[str]
    faults: list[str]


@dataclass(frozen=True)
class Row:
    run: Run
    title: str
    address: str  # of the round's page
    cells: list[Cell]
    is_baseline: bool


def runs(request: PlumblineRequest) -> HttpResponse:
    """The table; for htmx only the table itself."""
    table = read(request)
    page: Page[Run] = Paginator(table.found, _size(request.GET)).get_page(request.GET.get("page"))
    views = SavedView.objects.filter(
        Q(owner=request.user) | Q(shared=True), project=request.project
    ).select_related("owner")
    context = {
        "table": table,
        "page": page,
        "rows": _rows(request.project.slug, table, list(page.object_list)),
        "heads": [_head(request.GET, table, one) for one in table.columns],
        "name_head": _head(request.GET, table, Column("name", "Round", lambda run: run.name)),
        "query": address(request.GET, page=None),
        "here": address(request.GET, page=None, baseline=None),
        "columns": COLUMNS,
        "shown": [one.key for one in table.columns],
        "stages": Stage.choices,
        "sizes": SIZES,
        "size": _size(request.GET),
        "views": list(views),
        "most": MOST_COMPARED,
    }
    return render(request, "lab/runs.html#table" if request.htmx else "lab/runs.html", context)


def download(request: PlumblineRequest) -> HttpResponse:
    """Every round of the table as it is asked for, all pages: figures as they are stored."""
    table = read(request)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="rounds-{request.project.slug}.csv"'
    writer = csv.writer(response)
    titles: list[str] = []
    for one in table.columns:
        titles += (
            [one.key, f"{one.key}_low", f"{one.key}_high"] if one.form == "rate" else [one.key]
        )
    writer.writerow(["experiment", "round", *titles])
    for run in table.found:
        writer.writerow(
            [plain(run.name), run.number, *(v for c in table.columns for v in raw(run, c))]
        )
    return response


def differ(request: PlumblineRequest) -> HttpResponse:
    """The settings in which chosen rounds differ, or all of them (`all`)."""
    asked = [int(pk) for pk in request.GET.getlist("round") if pk.isdecimal() and len(pk) < 18]
    chosen = list(dict.fromkeys(asked))
    if len(chosen) < 2 or len(chosen) > MOST_COMPARED:
        some = "none" if not chosen else f"{len(chosen)}"
        messages.error(request, f"Choose 2 to {MOST_COMPARED} rounds to compare; this was {some}.")
        return redirect("runs", project=request.project.slug)
    by_pk = {one.pk: one for one in _rounds(request).filter(pk__in=chosen)}
    found = [by_pk[pk] for pk in chosen if pk in by_pk]
    rows = reading.differences([reading.configuration(one) for one in found])
    everything = bool(request.GET.get("all"))
    differing = [row for row in rows if not row.same]
    context = {
        "rounds": found,
        "rows": [(one.name, [json_text(v) for v in one.values], one.same)
                 for one in (rows if everything else differing)],
        "same": len(rows) - len(differing),
        "everything": everything,
        "query": "&".join(f"round={one.pk}" for one in found),
        "policies": "&".join(f"policy={p}" for one in found if (p := one.policy_out_id)),
    }  # fmt: skip
    return render(request, "lab/runs_diff.html", context)


def save_view(request: PlumblineRequest) -> HttpResponse:
    """Keep the table's address under a name; one of the person's own with that name is replaced."""
    name = request.POST.get("name", "").strip()
    query = _kept(QueryDict(request.POST.get("query", "")))
    if not name:
        messages.error(request, "Give the view a name.")
        return _to(request, query)
    if NAME is not None and len(name) > NAME:
        messages.error(request, f"A view's name has at most {NAME} characters, not {len(name)}.")
        return _to(request, query)
    fields = {"query": query, "shared": bool(request.POST.get("shared"))}
    try:
        with transaction.atomic():
            SavedView.objects.update_or_create(
                project=request.project, owner=request.user, name=name, defaults=fields
            )
    except IntegrityError:  # saved twice at the same instant: both meant the same view
        SavedView.objects.filter(project=request.project, owner=request.user, name=name).update(
            **fields
        )
    messages.success(request, f"The view {name} is saved.")
    return _to(request, query)


def drop_view(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Forget one of the person's own views."""
    found = get_object_or_404(SavedView, project=request.project, owner=request.user, pk=pk)
    found.delete()
    messages.success(request, f"The view {found.name} is forgotten.")
    return _to(request, "")


def read(request: PlumblineRequest) -> Table:
    """The rounds an address asks for, in its order."""
    query = request.GET
    chosen, faults = _columns(query)
    by_key = query.get("sort", "")
    down = by_key.startswith("-")
    sort = _sorted_by(by_key.removeprefix("-"), faults)
    counted = {one.key for one in [*chosen, *([sort] if sort else [])]}
    wanted = "ballots" in counted or "ballots" in query.get("q", "")
    everything = reading.runs(request.project, ballots=wanted)
    names = {name for run in everything for name in run.settings}
    asked = search(query.get("q", ""), names)
    found = [run for run in everything if _filtered(query, run) and asked.keeps(run)]
    baseline = query.get("baseline", "")
    return Table(
        found=ordered(found, sort, down) if sort else found,
        total=len(everything),
        columns=chosen,
        sort=sort,
        down=down,
        baseline=next((run for run in everything if str(run.pk) == baseline), None),
        settings=sorted(names),
        algorithms=sorted({str(run.settings["algorithm"]) for run in everything}),
        faults=faults + asked.faults,
    )


def address(query: QueryDict, **changes: str | None) -> str:
    """The same address with some of it changed; None leaves a part out."""
    copy = query.copy()
    for name, value in changes.items():
        if value is None:
            copy.pop(name, None)
        else:
            copy[name] = value
    return copy.urlencode()


def json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rounds(request: PlumblineRequest) -> Any:
    return Round.objects.filter(experiment__project=request.project).select_related(
        "experiment__prompt_set", "experiment__project", "reward_model"
    )


def _columns(query: QueryDict) -> tuple[list[Column], list[str]]:
    """The chosen columns, and a sentence for each there is none of."""
    asked = [key for text in query.getlist("columns") for key in text.split(",") if key]
    found, faults = [], []
    for key in dict.fromkeys(asked or USUAL):
        one = column(key)
        if one is None:
            faults.append(f"There is no column called “{key}”.")
        else:
            found.append(one)
    if len(found) > MOST_COLUMNS:
        faults.append(f"A table has at most {MOST_COLUMNS} columns; the first ones are shown.")
    return found[:MOST_COLUMNS], faults


def _sorted_by(key: str, faults: list[str]) -> Column | None:
    if key == "name":
        return Column("name", "Round", lambda run: f"{run.name} {run.number:06}")
    found = column(key) if key else None
    if key and found is None:
        faults.append(f"There is no column “{key}” to sort by.")
    return found


def _filtered(query: QueryDict, run: Run) -> bool:
    stage, algorithm = query.get("stage", ""), query.get("algorithm", "")
    if stage == "over" and run.stage not in OVER or stage == "active" and run.stage in OVER:
        return False
    if stage in Stage.values and run.stage != stage:
        return False
    return not algorithm or run.settings["algorithm"] == algorithm


def _size(query: QueryDict) -> int:
    asked = query.get("size", "")
    return int(asked) if asked in map(str, SIZES) else SIZES[0]


def _rows(slug: str, table: Table, found: list[Run]) -> list[Row]:
    base = table.baseline
    pattern = reverse("round", args=[slug, 0, 0])  # asked for once: a thousand would take as long
    return [
        Row(
            run=run,
            title=f"{run.name}, {run.number}",
            address=pattern.replace("/0/rounds/0/", f"/{run.experiment}/rounds/{run.number}/"),
            cells=[cell(run, one, base) for one in table.columns],
            is_baseline=base is not None and run.pk == base.pk,
        )
        for run in found
    ]


def _head(query: QueryDict, table: Table, one: Column) -> dict[str, Any]:
    """A column's title with the address that sorts by it: the largest first, then turned."""
    now = table.sort is not None and table.sort.key == one.key
    first = "-" if one.form in NUMBERS or one.form == "time" else ""
    turned = "" if table.down else "-"
    return {
        "title": one.title,
        "key": one.key,
        "numeric": one.form in NUMBERS and one.form != "rate",
        "query": address(query, page=None, sort=f"{turned if now else first}{one.key}"),
        "order": ("descending" if table.down else "ascending") if now else "",
        "setting": one.key.startswith(NAMED),
    }


def _kept(query: QueryDict) -> str:
    copy = query.copy()
    for name in set(copy) - set(KEPT):
        copy.pop(name)
    return copy.urlencode()


def _to(request: PlumblineRequest, query: str) -> HttpResponse:
    where = reverse("runs", args=[request.project.slug])
    return redirect(f"{where}?{query}" if query else where)
