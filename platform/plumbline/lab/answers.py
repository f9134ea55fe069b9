"""Look at answers: the same held-out prompts, answered by up to four policies, side by side.

The address says all that the page shows, so it can be kept, sent and opened in a second tab. What
is asked for by POST comes back to the same address.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse

from plumbline.collect.models import Completion, Prompt, PromptSet
from plumbline.lab import heat
from plumbline.loop import inspection, side_by_side, spot_checks
from plumbline.loop.models import SpotCheck, TokenRewards
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import Policy, RewardModel

T = TypeVar("T", PromptSet, Policy, RewardModel)
A_PAGE = 6
CHECKS = 5  # earlier ones that are shown


@dataclass(frozen=True)
class Wanted:
    """What an address asks for, checked against what the project has."""

    prompt_set: PromptSet
    policies: list[Policy]
    model: RewardModel | None
    reference: Policy | None
    order: str
    shown: str
    words: str
    page: str

    @property
    def query(self) -> str:
        """The address's, but for the page."""
        fields: dict[str, Any] = {
            "set": self.prompt_set.pk,
            "policy": [one.pk for one in self.policies],
            "order": self.order,
            "show": self.shown,
        }
        if self.model:
            fields["model"] = self.model.pk
        if self.reference:
            fields["reference"] = self.reference.pk
        if self.words:
            fields["q"] = self.words
        return urlencode(fields, doseq=True)


def answers(request: PlumblineRequest) -> HttpResponse:
    """The page; for htmx, the answers alone while a job reads them."""
    sets = _sets(request)
    if not sets:
        return render(request, "lab/answers.html", {"sets": []})
    authors, models, wanted = _wanted(request, request.GET, sets)
    table, found = _found(request, wanted)
    page = Paginator(found, A_PAGE).get_page(wanted.page)
    context = {
        "sets": sets,
        "authors": authors,
        "models": models,
        "wanted": wanted,
        "orders": side_by_side.ORDERS.items(),
        "shown": side_by_side.SHOWN.items(),
        "page": page,
        "places": [(n, _at(wanted.policies, n)) for n in range(side_by_side.MOST)],
        "references": Policy.objects.filter(project=request.project),
        **_rows(wanted, table, list(page.object_list)),
        "under_way": inspection.under_way(request.project),
        "failed": _failure(request),
    }
    if request.htmx:
        return render(request, "lab/answers.html#answers", context)
    context["checks"] = spot_checks.results(_checks(wanted))
    return render(request, "lab/answers.html", context)


def read(request: PlumblineRequest) -> HttpResponse:
    """Have the answers on the page read by token, and scored."""
    _, _, wanted = _wanted(request, request.POST, _sets(request))
    table, found = _found(request, wanted)
    page = Paginator(found, A_PAGE).get_page(wanted.page)
    shown = _answers(table, list(page.object_list))
    if wanted.reference is None:
        messages.error(request, "Choose a reference to read the answers against.")
    else:
        try:
            asked = inspection.ask(
                request.project, shown, wanted.reference, wanted.model, request.user
            )
        except ValueError as error:
            messages.error(request, str(error))
        else:
            words = "The fleet reads them; they appear here." if asked else "All are read already."
            messages.success(request, words)
    return _back(request, wanted, page.number)


def check(request: PlumblineRequest) -> HttpResponse:
    """Open a blind spot check of the pairs that the filter shows, on all its pages."""
    _, _, wanted = _wanted(request, request.POST, _sets(request))
    table, found = _found(request, wanted)
    try:
        made = spot_checks.begin(
            request.project,
            wanted.prompt_set,
            table,
            found,
            pairs=_number(request.POST.get("pairs", "")),
            overlap=_number(request.POST.get("overlap", "")),
            drawn_from=_drawn_from(wanted),
            model=wanted.model,
            user=request.user,
        )
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{made.campaign.name} is open: people may judge it now.")
    return _back(request, wanted, wanted.page)


def _found(request: PlumblineRequest, wanted: Wanted) -> tuple[side_by_side.Table, list[int]]:
    """All answers that are beside each other, and the prompts that the filter lets through."""
    prompts, model = wanted.prompt_set, wanted.model
    table = side_by_side.table(request.project, prompts, wanted.policies, model)
    return table, side_by_side.chosen(prompts, table, wanted.order, wanted.shown, wanted.words)


def _sets(request: PlumblineRequest) -> list[PromptSet]:
    """Prompt sets with held-out prompts that a policy has answered, the newest first."""
    answered = Completion.objects.filter(
        prompt__split=Prompt.Split.HELDOUT, policy__project=request.project
    )
    ids = answered.order_by().values("prompt__set").distinct()
    return list(PromptSet.objects.filter(project=request.project, pk__in=ids).order_by("-pk"))


def _wanted(
    request: PlumblineRequest, query: QueryDict, sets: list[PromptSet]
) -> tuple[list[Policy], list[RewardModel], Wanted]:
    """Raises Http404 for what the project does not have."""
    if not sets:
        raise Http404("No policy has answered a held-out prompt.")
    prompt_set = _pick(sets, query.get("set", ""), sets[0])
    assert prompt_set is not None
    authors = side_by_side.authors(request.project, prompt_set)
    models = side_by_side.scorers(request.project, prompt_set)
    named = [_pick(authors, pk, None) for pk in query.getlist("policy") if pk]
    policies = [one for one in dict.fromkeys(named) if one is not None][: side_by_side.MOST]
    model = _pick(models, query.get("model", ""), models[0] if models else None)
    bases = [one for one in authors if one.weights == Policy.Weights.BASE]
    references = Policy.objects.filter(project=request.project)
    fallback = bases[0] if bases else references.filter(weights=Policy.Weights.BASE).last()
    order, shown = query.get("order", ""), query.get("show", "")
    return authors, models, Wanted(
        prompt_set=prompt_set,
        policies=policies or _first(authors),
        model=model,
        reference=_pick(list(references), query.get("reference", ""), fallback),
        order=order if order in side_by_side.ORDERS else "prompt",
        shown=shown if shown in side_by_side.SHOWN else "all",
        words=query.get("q", "").strip()[:200],
        page=query.get("page", ""),
    )  # fmt: skip


def _pick(found: list[T], pk: str, other: T | None) -> T | None:
    """The one with this id; `other` where none is named. Raises Http404 for one that is not."""
    if not pk:
        return other
    for one in found:
        if str(one.pk) == pk:
            return one
    raise Http404(f"There is no {pk} here.")


def _first(authors: list[Policy]) -> list[Policy]:
    """What is shown before anybody has chosen: the newest policy beside its parent or the base."""
    if len(authors) < 2:
        return authors
    newest = authors[0]
    before = [one for one in authors[1:] if one.pk == newest.parent_id]
    return [before[0] if before else authors[-1], newest]


def _at(policies: list[Policy], place: int) -> Policy | None:
    return policies[place] if place < len(policies) else None


def _answers(table: side_by_side.Table, prompts: list[int]) -> list[Completion]:
    ids = [
        table.answers[prompt, policy.pk]
        for prompt in prompts
        for policy in table.policies
        if (prompt, policy.pk) in table.answers
    ]
    found = Completion.objects.select_related("prompt", "policy").in_bulk(ids)
    return [found[pk] for pk in ids]


def _rows(wanted: Wanted, table: side_by_side.Table, prompts: list[int]) -> dict[str, Any]:
    """The page's prompts with their answers, read by token where they are; and what they say of
    each policy."""
    shown = _answers(table, prompts)
    by_place = {(one.prompt_id, one.policy_id): one for one in shown}
    writers = {one.pk: one for one in wanted.policies}
    read = TokenRewards.objects.filter(
        reference=wanted.reference, completion__in=shown
    ).select_related("completion")
    heats, legend = heat.heats(read, writers)
    texts = Prompt.objects.in_bulk(prompts)

    def cell(prompt: int, policy: Policy) -> dict[str, Any]:
        one = by_place.get((prompt, policy.pk))
        score, first = table.score(prompt, policy), table.score(prompt, wanted.policies[0])
        gain = None
        if policy != wanted.policies[0] and score is not None and first is not None:
            gain = score - first
        return {
            "policy": policy,
            "answer": one,
            "tokens": len(one.token_ids) if one is not None and one.token_ids else None,
            "score": score,
            "gain": gain,
            "heat": heats.get(one.pk) if one is not None else None,
        }

    rows = [(texts[pk], [cell(pk, policy) for policy in wanted.policies]) for pk in prompts]
    return {
        "rows": rows,
        "legend": legend if heats else None,
        "unread": len(inspection.unknown(shown, wanted.reference, wanted.model))
        if wanted.reference
        else 0,
        "sums": [_sum(table, policy, rows) for policy in wanted.policies],
    }


def _sum(table: side_by_side.Table, policy: Policy, rows: list[Any]) -> dict[str, Any]:
    """What is known of a policy's answers: of all of them its mean score, of those on the page
    their length and how far they went from the reference."""
    cells = [cell for _, cells in rows for cell in cells if cell["policy"] == policy]
    tokens = [cell["tokens"] for cell in cells if cell["tokens"] is not None]
    ratios = [cell["heat"].ratio for cell in cells if cell["heat"]]
    return {
        "policy": policy,
        "answers": table.count(policy),
        "score": table.mean_score(policy),
        "tokens": fmean(tokens) if tokens else None,
        "ratio": fmean(ratios) if ratios else None,
        "read": len(ratios),
        "beta": heat.beta(policy),
    }


def _checks(wanted: Wanted) -> list[SpotCheck]:
    found = SpotCheck.objects.filter(
        prompt_set=wanted.prompt_set, policy__in=wanted.policies, against__in=wanted.policies
    )
    return list(found.select_related("campaign", "policy", "against", "reward_model")[:CHECKS])


def _failure(request: PlumblineRequest) -> str:
    """What went wrong with the newest job that read answers."""
    newest = request.project.inspections.exclude(taken_at=None).first()
    return newest.error if newest else ""


def _drawn_from(wanted: Wanted) -> str:
    said = {
        "all": "all pairs",
        "gained": "pairs whose score rose",
        "lost": "pairs whose score fell",
        "even": "pairs with even scores",
    }[wanted.shown]
    return f"{said}, prompts with “{wanted.words}”" if wanted.words else said


def _number(text: str) -> int:
    """0, which is never enough, for what is no number."""
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _back(request: PlumblineRequest, wanted: Wanted, page: int | str) -> HttpResponse:
    here = reverse("answers", args=[request.project.slug])
    return redirect(f"{here}?{wanted.query}{f'&page={page}' if page else ''}")
