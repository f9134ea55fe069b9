"""A campaign's comparisons for researchers: a list with filters, one with its votes, the flags."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from plumbline.collect import asking, campaigns, disputes, queue, screen, training, votes
from plumbline.collect.campaign_forms import MOST_PEOPLE
from plumbline.collect.models import Ballot, Campaign, Comparison, Flag
from plumbline.collect.quality.gold import DISPUTED
from plumbline.collect.queue import seats, stale
from plumbline.permissions import PlumblineRequest

A_PAGE = 25
FILTERS = {
    "all": "All",
    "open": "Open",
    "full": "Full",
    "expired": "Expired",
    "skipped": "Skipped",
    "flagged": "Flagged",
    "disputed": "Disputed",
}
Kind = Comparison.Kind


def comparisons(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Where each comparison stands. Disputed: people contradict each other (`disputes`)."""
    row = campaigns.find(request, campaign)
    seats.settle(row)
    chosen = request.GET.get("show", "all")
    chosen = chosen if chosen in FILTERS else "all"
    kind = request.GET.get("kind", "")
    kind = kind if kind in Kind.values else ""
    found = filtered(row, chosen).select_related("prompt")
    if kind:
        found = found.filter(kind=kind)
    if chosen != "disputed":  # those come furthest apart first
        found = found.order_by("-priority", "pk")
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    context = {
        **campaigns.frame(row, "comparisons"),
        "page": page,
        "rows": _rows(row, list(page.object_list)),
        "filters": FILTERS.items(),
        "chosen": chosen,
        "kinds": Kind.choices,
        "kind": kind,
        "query": urlencode({"show": chosen, "kind": kind}),
    }
    return render(request, "collect/campaigns/comparisons.html", context)


def filtered(campaign: Campaign, show: str) -> QuerySet[Comparison]:
    every = _listed(campaign)
    asked = every.filter(kind__in=votes.COUNTED, retired_at=None)
    match show:
        case "open":
            return asked.filter(full=False).exclude(stale.gone())
        case "full":
            return asked.filter(full=True)
        case "expired":
            return queue.expired(campaign)
        case "skipped":
            return every.filter(_said(Ballot.Outcome.SKIPPED))
        case "flagged":
            return every.filter(_said(Ballot.Outcome.FLAGGED))
        case "disputed":
            return disputes.among(
                asked, also=Q(campaign=campaign, why__has_key=DISPUTED, kind=Kind.GOLD)
            )
        case _:
            return every


class ExpectedForm(forms.Form):
    """What a training comparison should be answered, and why."""

    explanation = forms.CharField(
        max_length=4000,
        label="Explanation",
        help_text="Markdown. People read it after their answer.",
        widget=forms.Textarea(attrs={"rows": 4}),
        error_messages={"required": "Explanation: say why; people read it after their answer."},
    )

    def __init__(self, row: Comparison, data: Any = None) -> None:
        super().__init__(data, initial={"explanation": row.explanation})
        self.fields["explanation"].required = self.teaches = self.data.get("do") != "hide"
        self.row = row
        self.slots = [slot.slot for slot in row.slots.all()]
        self.ordered = asking.COMPARE in row.campaign.asks
        known = row.expected or {}
        place = {slot: at for at, group in enumerate(known.get("ranking", []), 1) for slot in group}
        bad = known.get("outcome") == Ballot.Outcome.ALL_BAD
        if self.ordered:
            self.fields["all_bad"] = forms.BooleanField(
                required=False, label="All answers are bad", initial=bad
            )
            for slot in self.slots:
                self.fields[f"place_{slot}"] = forms.IntegerField(
                    required=False,
                    label=f"Place of {'ABCDEFGHI'[slot]}",
                    help_text="1 is best; equal places tie." if slot == self.slots[0] else "",
                    min_value=1,
                    max_value=len(self.slots),
                    initial=place.get(slot),
                )
        self.scales = asking.criteria(row.campaign.criteria)
        for slot in self.slots:
            for one in self.scales:
                self.fields[f"rate_{slot}_{one.name}"] = forms.IntegerField(
                    required=not self.ordered,
                    label=f"{'ABCDEFGHI'[slot]}: {one.name}",
                    min_value=one.least,
                    max_value=one.most,
                    initial=known.get("ratings", {}).get(str(slot), {}).get(one.name),
                )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if self.ordered and not given.get("all_bad"):
            for slot in self.slots:
                name = f"place_{slot}"
                if given.get(name) is None and name not in self.errors:
                    self.add_error(name, f"Place of {'ABCDEFGHI'[slot]} is missing.")
        return given

    def expected(self) -> dict[str, Any]:
        """The fields of the verdict that a valid form describes."""
        given = self.cleaned_data
        found: dict[str, Any] = {"outcome": Ballot.Outcome.ABSOLUTE.value, "ranking": []}
        if self.ordered and given["all_bad"]:
            return {**found, "outcome": Ballot.Outcome.ALL_BAD.value}
        if self.ordered:
            places = [given[f"place_{slot}"] for slot in self.slots]
            ranking = [
                [slot for slot, given in zip(self.slots, places, strict=True) if given == place]
                for place in sorted(set(places))
            ]
            found = {"outcome": Ballot.Outcome.RANKED.value, "ranking": ranking}
        ratings = {
            str(slot): {
                one.name: value
                for one in self.scales
                if (value := given.get(f"rate_{slot}_{one.name}")) is not None
            }
            for slot in self.slots
        }
        return {**found, "ratings": ratings} if any(ratings.values()) else found


def comparison(request: PlumblineRequest, campaign: int, pk: int) -> HttpResponse:
    """One comparison: its answers, why it is asked, everything that was said of it."""
    return _show(request, _comparison(request, campaign, pk))


def set_overlap(request: PlumblineRequest, campaign: int, pk: int) -> HttpResponse:
    row = _comparison(request, campaign, pk)
    given = request.POST.get("overlap", "").strip()
    try:
        if given and not given.isdecimal():
            raise ValueError("People wanted must be a whole number, or empty for the campaign’s.")
        if row.kind not in votes.COUNTED:
            raise ValueError("Hidden tests and training are asked of whoever is due.")
        if given and not 1 <= int(given) <= MOST_PEOPLE:
            raise ValueError(f"People wanted must be between 1 and {MOST_PEOPLE}.")
        queue.set_overlap(row, int(given) if given else None)
        messages.success(request, "Changed. It holds from the next person on.")
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("comparison", request.project.slug, row.campaign_id, row.pk)


def teach(request: PlumblineRequest, campaign: int, pk: int) -> HttpResponse:
    """Make a training item or a hidden test of it, change that item, or take it out."""
    row = _comparison(request, campaign, pk)
    try:
        if request.POST.get("do") == "stop":
            training.stop_teaching(row)
            messages.success(request, "It is no longer in the training.")
        else:
            form = ExpectedForm(row, request.POST)
            if not form.is_valid():
                return _show(request, row, form, status=422)
            if form.teaches:
                row = training.teach(row, form.expected(), form.cleaned_data["explanation"])
                messages.success(request, "It is in the training now, and trains no policy.")
            else:
                row = training.hide(row, form.expected())
                messages.success(request, "It is a hidden test now, and trains no policy.")
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("comparison", request.project.slug, row.campaign_id, row.pk)


def retire(request: PlumblineRequest, campaign: int, pk: int) -> HttpResponse:
    """Ask it no more, or again. Its votes stay either way."""
    row = _comparison(request, campaign, pk)
    row.retired_at = None if request.POST.get("do") == "return" else timezone.now()
    row.save(update_fields=["retired_at"])
    said = "It is asked again." if row.retired_at is None else "It is asked no more."
    messages.success(request, said)
    return redirect("comparison", request.project.slug, row.campaign_id, row.pk)


def flags(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """What people called harmful or broken; open ones first."""
    row = campaigns.find(request, campaign)
    found = Flag.objects.filter(ballot__comparison__campaign=row).select_related(
        "ballot__annotator", "ballot__comparison__prompt", "resolved_by"
    )
    page = Paginator(found.order_by(F("resolved_at").desc(nulls_first=True), "-raised_at"), A_PAGE)
    context = {
        **campaigns.frame(row, "flags"),
        "page": page.get_page(request.GET.get("page")),
    }
    return render(request, "collect/campaigns/flags.html", context)


def resolve(request: PlumblineRequest, campaign: int, pk: int) -> HttpResponse:
    """Keep the flagged comparison or ask it no more, with a word on why."""
    row = get_object_or_404(
        Flag.objects.select_related("ballot__comparison"),
        pk=pk,
        ballot__comparison__campaign=campaigns.find(request, campaign),
    )
    words = request.POST.get("resolution", "").strip()[:300]
    do = request.POST.get("do")
    if do not in ("keep", "retire") or not words:
        messages.error(request, "Resolution: say in a few words what you decided and why.")
    elif queue.resolve(row, request.user, words, retire=do == "retire"):
        messages.success(request, "Resolved.")
    else:
        messages.info(request, "Somebody has resolved this flag already.")
    return redirect("campaign-flags", request.project.slug, campaign)


def _show(
    request: PlumblineRequest, row: Comparison, form: ExpectedForm | None = None, status: int = 200
) -> HttpResponse:
    slots = list(row.slots.select_related("completion__policy"))
    ballots = row.ballots.exclude(outcome="").select_related("annotator", "flag")
    said = [(ballot, plainly(ballot)) for ballot in ballots.order_by("cast_at")]
    teachable = row.kind in (Kind.ORDINARY, Kind.LIVE, Kind.TRAINING)
    context = {
        **campaigns.frame(row.campaign, "comparisons"),
        "comparison": row,
        "turns": row.prompt.messages,
        "answers": [("ABCDEFGHI"[slot.slot], slot.completion) for slot in slots],
        "said": said,
        "wanted": row.overlap or row.campaign.overlap,
        "asked_of_some": row.kind in votes.COUNTED,
        "expected": known(row),
        "why": [(name.replace("_", " "), _short(value)) for name, value in row.why.items()],
        "form": (form or ExpectedForm(row)) if teachable else None,
    }
    return render(request, "collect/campaigns/comparison.html", context, status=status)


def plainly(ballot: Ballot) -> str:
    """What was said, with A for the first answer whatever side it was shown on."""
    if ballot.outcome == Ballot.Outcome.WITHDRAWN:
        return ballot.get_outcome_display()
    names = ("outcome", "ranking", "strength", "mark", "ratings", "corrections", "spans")
    said = {name: getattr(ballot, name) for name in names}
    return screen.sentence(Ballot(shown=sorted(ballot.shown), **said))


def known(row: Comparison) -> str:
    """The expected verdict in words; "" where none is."""
    slots = [slot.slot for slot in row.slots.all()]
    return screen.expected(Ballot(shown=slots), row.expected) if row.expected else ""


def _comparison(request: PlumblineRequest, campaign: int, pk: int) -> Comparison:
    return get_object_or_404(
        _listed(campaigns.find(request, campaign)).select_related("campaign", "prompt"), pk=pk
    )


def _listed(campaign: Campaign) -> QuerySet[Comparison]:
    """Without live ones that are still being written: they have no answers yet."""
    return Comparison.objects.filter(campaign=campaign).exclude(
        kind=Kind.LIVE, only_for__isnull=False
    )


def _short(value: Any) -> Any:
    """A figure in as many digits as anybody reads."""
    return f"{value:.3g}" if isinstance(value, float) else value


def _said(outcome: str) -> Exists:
    return Exists(Ballot.objects.filter(comparison=OuterRef("pk"), outcome=outcome))


def _rows(campaign: Campaign, page: list[Comparison]) -> list[dict[str, Any]]:
    """Figures of one page's comparisons in two queries."""
    here = Ballot.objects.filter(comparison__in=[one.pk for one in page]).order_by()
    counted = here.values("comparison").annotate(
        votes=Count("pk", filter=Q(seat__isnull=False, outcome__in=votes.VOTES)),
        skipped=Count("pk", filter=Q(outcome=Ballot.Outcome.SKIPPED)),
        flagged=Count("pk", filter=Q(outcome=Ballot.Outcome.FLAGGED)),
    )
    by_comparison = {row["comparison"]: row for row in counted}
    answers = {
        row["pk"]: row["n"]
        for row in Comparison.objects.filter(pk__in=[one.pk for one in page])
        .annotate(n=Count("slots"))
        .values("pk", "n")
    }
    return [
        {
            **by_comparison.get(one.pk, {"votes": 0, "skipped": 0, "flagged": 0}),
            "comparison": one,
            "dispute": disputes.told(one),
            "wanted": (one.overlap or campaign.overlap) if one.kind in votes.COUNTED else None,
            "answers": answers[one.pk],
        }
        for one in page
    ]
