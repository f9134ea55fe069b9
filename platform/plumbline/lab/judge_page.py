"""One judge: what it is, what it is being asked, and what it said, verdict by verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render

from plumbline.collect import votes
from plumbline.collect.models import Campaign, Comparison
from plumbline.judges import asking, casting, judges, people
from plumbline.judges.models import Asking, Judge, JudgeVersion, Revising, Verdict
from plumbline.judges.people import People
from plumbline.lab import timeline
from plumbline.lab.judge_forms import RevisionsForm, TryForm, offered
from plumbline.lab.judges import find, title
from plumbline.permissions import PlumblineRequest

A_PAGE = 10
ASKINGS = 5
SHOWN = {
    "all": "All",
    "inconsistent": "Inconsistent",
    "null": "No verdict",
    "people": "Against people",
}


@dataclass(frozen=True)
class Order:
    """What it said of one order: `first` is P(the answer shown first), `shown` which that was."""

    shown: str
    q: float | None
    analysis: str
    verdict: str
    error: str


@dataclass(frozen=True)
class Shown:
    """A verdict with its answers: `one` is the one it was asked about first."""

    row: Verdict
    one: Any
    other: Any
    p: float | None  # that `one` is better
    orders: Sequence[Order]
    principles: Sequence[dict[str, Any]]
    people: People | None
    share: float | None  # of people's votes for `one`
    scores: Sequence[float]  # of a reward model, of `one` and `other`

    @property
    def against(self) -> bool:
        return (
            self.people is not None and self.row.p is not None and self.people.against(self.row.p)
        )


def judge_page(request: PlumblineRequest, judge: int) -> HttpResponse:
    """What a judge is and said; of a version other than the newest by ?version=NUMBER."""
    found = find(request, judge)
    version = _version(request, found)
    if request.htmx and request.htmx.target == "askings":
        return render(request, "lab/judge.html#askings", _askings(found))
    shown = request.GET.get("show", "all")
    shown = shown if shown in SHOWN else "all"
    page = Paginator(_verdicts(version, shown), A_PAGE).get_page(request.GET.get("page"))
    context = {
        "judge": found,
        "version": version,
        "title": title(found),
        "newest": judges.current(found),
        "changeable": found.kind in offered() and found.retired_at is None,
        "show": shown,
        "filters": [
            (name, label, _verdicts(version, name).count()) for name, label in SHOWN.items()
        ],
        "page": page,
        "verdicts": verdicts(list(page.object_list)),
        "query": f"show={shown}&version={version.number}",
        "form": TryForm(request.project),
        "revisions": RevisionsForm(request.project) if version.settings.get("principles") else None,
        "bias": bias(version),
        **_askings(found),
    }
    return render(request, "lab/judge.html", context)


def judge_try(request: PlumblineRequest, judge: int) -> HttpResponse:
    """Ask the newest version about a comparison, or about the newest ones."""
    found = find(request, judge)
    form = TryForm(request.project, request.POST)
    if form.is_valid():
        try:
            said = _ask(request, found, form.cleaned_data)
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, said)
    if form.errors:
        for sentence in [one for listed in form.errors.values() for one in listed]:
            messages.error(request, str(sentence))
    return redirect("judge", request.project.slug, found.pk)


def bias(version: JudgeVersion) -> float | None:
    """The mean chance of picking whichever answer is shown first; a half is no bias."""
    said = version.verdicts.exclude(p=None).values_list("q_first", "q_second")
    found = [q for both in said for q in both if q is not None]
    return sum(found) / len(found) if found else None


def verdicts(rows: Sequence[Verdict]) -> list[Shown]:
    """Verdicts as they are read, in the order in which each was asked."""
    told = people.said(rows)
    return [_shown(row, told.get(row.pk)) for row in rows]


def _shown(row: Verdict, said: People | None) -> Shown:
    turned = row.detail.get("asked_first") == str(row.second_id)
    one, other = (row.second, row.first) if turned else (row.first, row.second)
    orders = [
        _order(told, place)
        for told, place in zip(row.detail.get("orders", []), ("A", "B"), strict=False)
    ]
    share = None if said is None else 1 - said.share if turned else said.share
    scores = row.detail.get("scores", [])  # in the order asked
    p = None if row.p is None else 1 - row.p if turned else row.p
    return Shown(row, one, other, p, orders, row.detail.get("principles", []), said, share, scores)


def _order(told: dict[str, Any], place: str) -> Order:
    """One order's words; the names that the sides had there are told as the page's own."""
    names = told.get("names", {})
    verdict = str(told.get("verdict") or told.get("said") or "")
    return Order(
        shown=place,
        q=told.get("q"),
        analysis=str(told.get("analysis", "")),
        verdict=f"{verdict} ({names.get('one', 'A')} was {place})" if verdict else "",
        error=str(told.get("error", "")),
    )


def _verdicts(version: JudgeVersion, show: str) -> QuerySet[Verdict]:
    rows = version.verdicts.select_related("first__prompt", "second").order_by("-pk")
    if show == "inconsistent":
        return rows.filter(consistent=False)
    if show == "null":
        return rows.filter(p=None)
    if show == "people":
        return rows.filter(pk__in=people.disagreeing(version))
    return rows


def _version(request: PlumblineRequest, judge: Judge) -> JudgeVersion:
    number = request.GET.get("version", "")
    wanted = judge.versions.none()
    if number.isascii() and number.isdigit() and len(number) < 9:
        wanted = judge.versions.filter(number=int(number))
    return wanted.select_related("endpoint", "reward_model").first() or judges.current(judge)


def _askings(judge: Judge) -> dict[str, Any]:
    """The newest jobs with their progress."""
    here = {"version__judge": judge}
    asked = Asking.objects.filter(**here).select_related("job", "version", "campaign", "asked_by")
    revised = Revising.objects.filter(**here).select_related("job", "version", "campaign")
    both: list[Asking | Revising] = [*asked[:ASKINGS], *revised[:ASKINGS]]
    rows = sorted(both, key=lambda one: one.created_at, reverse=True)[:ASKINGS]
    found = [(one, timeline.work(one.job, f"Version {one.version.number}")) for one in rows]
    busy = any(not one.job.over or _waits(one) for one in rows)
    return {"askings": found, "busy": busy, "judge": judge}


def _waits(one: Asking | Revising) -> bool:
    """Whether its job has ended well and is yet to be gathered."""
    return one.job.state == one.job.State.SUCCEEDED and one.gathered_at is None


def _ask(request: PlumblineRequest, judge: Judge, data: dict[str, Any]) -> str:
    """Raises ValueError for a judge that is retired and for what cannot be asked."""
    if judge.retired_at is not None:
        raise ValueError(f"{judge} is retired.")
    version = judges.current(judge)
    campaign: Campaign | None = data["campaign"]
    compared = _compared(request, data)
    pairs = [pair for _, pair in casting.pairs(compared)]
    if not pairs:
        raise ValueError("There is no comparison of two answers to ask about.")
    casts = campaign if data["ballots"] else None
    job = asking.ask(
        version,
        pairs,
        f"{judge}: {len(pairs)} pairs",
        max_dollars=data["dollars"],
        again=data["again"],
        campaign=casts,
        by=request.user,
    )
    if job is not None:
        return f"{judge} is being asked."
    if casts is not None:
        return f"Every verdict was there; {casting.cast(version, compared)} ballots are new."
    return "Every verdict was there already; nothing is asked twice."


def _compared(request: PlumblineRequest, data: dict[str, Any]) -> list[Comparison]:
    """The comparisons of two answers that a form asks about."""
    here = Comparison.objects.filter(campaign__project=request.project)
    if data["comparison"]:
        here = here.filter(pk=data["comparison"])
    else:
        here = votes.counted(here.filter(retired_at=None))
    if data["campaign"]:
        here = here.filter(campaign=data["campaign"])
    two = here.annotate(answers=Count("slots")).filter(answers=2)
    return list(two.order_by("-pk")[: data["count"]])
