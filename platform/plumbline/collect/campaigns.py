"""Campaigns for researchers: the list, one campaign's state and pace, its settings and versions."""

from __future__ import annotations

import random
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from plumbline.collect import counts, filling, lifecycle, queue, throughput, versions
from plumbline.collect.campaign_forms import CampaignForm
from plumbline.collect.live import settings as live
from plumbline.collect.models import Campaign, CampaignVersion, Comparison, Flag
from plumbline.collect.queue import training
from plumbline.permissions import PlumblineRequest

A_PAGE = 25


def campaigns(request: PlumblineRequest) -> HttpResponse:
    """All campaigns of the project, those that take votes first."""
    found = Campaign.objects.filter(project=request.project).order_by(
        F("closed_at").desc(nulls_first=True), "-created_at", "-pk"
    )
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    here = [one.pk for one in page.object_list]
    flags = Flag.objects.filter(ballot__comparison__campaign__in=here, resolved_at=None)
    raised = {
        row["ballot__comparison__campaign"]: row["n"]
        for row in flags.values("ballot__comparison__campaign").annotate(n=Count("pk"))
    }
    rows = [
        (one, *_state(one), _asked(one), counts.votes(one), raised.get(one.pk, 0))
        for one in page.object_list
    ]
    return render(request, "collect/campaigns/list.html", {"page": page, "rows": rows})


def new(request: PlumblineRequest) -> HttpResponse:
    form = CampaignForm(request.project, None, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        made = versions.create(Campaign(project=request.project, **form.values()), request.user)
        if made.live:
            messages.success(request, f"{made} is open.")
            return redirect("campaign-manage", request.project.slug, made.pk)
        messages.success(request, f"{made} is open. Add the comparisons people should see.")
        return redirect("campaign-fill", request.project.slug, made.pk)
    status = 422 if form.is_bound else 200
    return render(request, "collect/campaigns/form.html", {"form": form}, status=status)


def edit(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Change settings. Somebody else's change since the page was opened is told, not lost."""
    row = find(request, campaign)
    form = CampaignForm(request.project, row, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and not _overtaken(request, row, form):
        version = versions.change(row, form.values(), request.user)
        if version is None:
            messages.info(request, "Nothing was changed.")
        else:
            messages.success(request, f"Saved as version {version.number}.")
        return redirect("campaign-manage", request.project.slug, row.pk)
    context = {"form": form, **frame(row, "edit")}
    status = 422 if form.is_bound else 200
    return render(request, "collect/campaigns/form.html", context, status=status)


def preview(request: PlumblineRequest) -> HttpResponse:
    """Guidelines as people will read them."""
    text = request.POST.get("guidelines", "")
    return render(request, "collect/campaigns/preview.html", {"text": text})


def manage(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """One campaign: whether it takes votes, how fast they come, what they cost."""
    row = find(request, campaign)
    context = {
        **frame(row, "manage"),
        "pace": throughput.of(row),
        "chart": (throughput.WIDTH, throughput.HEIGHT, throughput.HOURS),
        "kinds": _kinds(row),
        "training": training.of_campaign(row).count(),
        "live": live.words(row.live) if row.live else "",
    }
    name = "collect/campaigns/manage.html" + ("#live" if request.htmx else "")
    return render(request, name, context)


def step(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Pause, resume, close or reopen."""
    row = find(request, campaign)
    try:
        messages.success(request, lifecycle.step(row, request.POST.get("do", ""), request.user))
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("campaign-manage", request.project.slug, row.pk)


def bring_back(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Ask what has expired again."""
    row = find(request, campaign)
    try:
        n = queue.bring_back(row)
    except ValueError as error:
        messages.error(request, str(error))
    else:
        days = f" for {row.stale_days} day{'' if row.stale_days == 1 else 's'}"
        what = "comparison is" if n == 1 else "comparisons are"
        messages.success(request, f"{n} {what} asked again{days if row.stale_days else ''}.")
    return redirect("campaign-manage", request.project.slug, row.pk)


def history(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """All versions, and what differs between two of them."""
    row = find(request, campaign)
    every = list(row.versions.select_related("author").order_by("number"))
    by_number = {one.number: one for one in every}
    context: dict[str, Any] = {**frame(row, "versions"), "every": every[::-1]}
    if len(every) > 1:
        latest = every[-1].number
        after = _chosen(request.GET.get("to"), by_number, latest)
        earlier = [n for n in by_number if n < after.number] or [after.number]
        before = _chosen(request.GET.get("from"), by_number, earlier[-1])
        context |= {
            "before": before,
            "after": after,
            "changes": versions.compare(before.settings, after.settings),
        }
    context["steps"] = _steps(every)
    return render(request, "collect/campaigns/versions.html", context)


class FillForm(forms.Form):
    """Where comparisons come from."""

    source = forms.ChoiceField(label="Prompt set")
    answers = forms.TypedChoiceField(
        label="Answers side by side",
        coerce=int,
        choices=[(2, "2, a pair"), *((n, f"{n}, to be ranked") for n in range(3, 10))],
        help_text="Prompts with fewer different answers are left out.",
    )
    strategy = forms.ChoiceField(
        label="Which answers",
        help_text="For pairs. Groups of three to nine are drawn evenly.",
    )
    most = forms.IntegerField(
        label="Prompts",
        min_value=1,
        max_value=filling.MOST,
        initial=100,
        help_text="Drawn by chance from those this campaign does not ask about yet.",
        error_messages={
            "required": "Prompts: say how many.",
            "invalid": "Prompts must be a whole number.",
            "min_value": f"Prompts must be between 1 and {filling.MOST}.",
            "max_value": f"Prompts must be between 1 and {filling.MOST}.",
        },
    )

    def __init__(self, offers: list[filling.Offer], data: Any = None) -> None:
        super().__init__(data)
        self.sources = {str(one.set.pk): one.set for one in offers}
        source, strategy = self.fields["source"], self.fields["strategy"]
        assert isinstance(source, forms.ChoiceField)
        assert isinstance(strategy, forms.ChoiceField)
        source.choices = [
            (pk, f"{one.set} ({one.pairs} prompts left)")
            for pk, one in zip(self.sources, offers, strict=True)
        ]
        strategy.choices = list(filling.strategies().items())


def fill(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Add comparisons from the answers of a prompt set."""
    row = find(request, campaign)
    offers = filling.offers(row)
    form = FillForm(offers, request.POST if request.method == "POST" else None)
    if form.is_valid():
        given = form.cleaned_data
        try:
            made = filling.fill(
                row,
                form.sources[given["source"]],
                given["strategy"],
                given["answers"],
                given["most"],
                random.SystemRandom(),
            )
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            words = "comparison is" if made == 1 else "comparisons are"
            messages.success(request, f"{made} {words} added.")
            return redirect("campaign-manage", request.project.slug, row.pk)
    context = {**frame(row, "fill"), "form": form, "offers": offers}
    status = 422 if form.is_bound else 200
    return render(request, "collect/campaigns/fill.html", context, status=status)


def find(request: PlumblineRequest, pk: int) -> Campaign:
    return get_object_or_404(Campaign, pk=pk, project=request.project)


def frame(row: Campaign, tab: str) -> dict[str, Any]:
    """What stands above every page of a campaign."""
    state, words = _state(row)
    flags = Flag.objects.filter(ballot__comparison__campaign=row, resolved_at=None)
    return {
        "campaign": row,
        "tab": tab,
        "state": state,
        "state_words": words,
        "flags_open": flags.count(),
        "now": timezone.now(),
    }


def _state(row: Campaign) -> tuple[str, str]:
    state = lifecycle.state(row)
    return state, lifecycle.WORDS[state]


def _asked(row: Campaign) -> int:
    """Comparisons, without those that ask somebody their own vote again."""
    return sum(n for kind, n in counts.kinds(row).items() if kind != Comparison.Kind.REPEAT)


def _kinds(row: Campaign) -> list[tuple[str, int]]:
    found = counts.kinds(row)
    return [(kind.label, found[kind]) for kind in Comparison.Kind if kind in found]


def _overtaken(request: PlumblineRequest, row: Campaign, form: CampaignForm) -> bool:
    saw = form.cleaned_data["saw"]
    if saw in (None, row.settings_version):
        return False
    latest = row.versions.select_related("author").first()
    who = latest.author if latest and latest.author else "Somebody"
    form.add_error(
        None,
        f"{who} changed this campaign while you were editing (version {row.settings_version}). "
        "Nothing of yours is saved yet: look at that change, then save again.",
    )
    data = request.POST.copy()
    data["saw"] = str(row.settings_version)
    form.data = data
    return True


def _chosen(
    given: str | None, by_number: dict[int, CampaignVersion], default: int
) -> CampaignVersion:
    number = int(given) if given and given.isdecimal() else default
    return by_number.get(number, by_number[default])


def _steps(every: list[CampaignVersion]) -> dict[int, str]:
    """By version, the names of the settings it changed."""
    found = {}
    for before, after in zip([None, *every], every, strict=False):
        if before is None:
            found[after.number] = "As it was created" if after.number == 1 else "First version"
            continue
        labels = [one.label for one in versions.compare(before.settings, after.settings)]
        found[after.number] = ", ".join(labels) or "No difference"
    return found
