"""Sessions of ICPL for researchers: the list, the form, one session, its lineage, and what a
generation's writer read and wrote."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Max
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.collect import queue
from plumbline.collect.models import Completion
from plumbline.evolve import asking, checking, pictures, sessions
from plumbline.evolve.forms import EvolutionForm
from plumbline.evolve.models import Confirmation, Evolution, Generation, Program, Stage
from plumbline.permissions import PlumblineRequest

A_PAGE = 25
SHOWN = [one for one in Stage if one not in (Stage.DONE, Stage.FAILED, Stage.CANCELLED)]


def sessions_list(request: PlumblineRequest) -> HttpResponse:
    found = (
        Evolution.objects.filter(project=request.project)
        .select_related("best__generation", "prompt_set")
        .annotate(begun=Max("generations__number"), programs=Count("generations__programs"))
        .order_by("-created_at", "-pk")
    )
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    return render(request, "evolve/list.html", {"page": page})


def new(request: PlumblineRequest) -> HttpResponse:
    form = EvolutionForm(request.project, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        made = form.save(request.user)
        messages.success(request, f"{made} is under way: its prompts and answers are drawn first.")
        return redirect("evolution", request.project.slug, made.pk)
    status = 422 if form.is_bound else 200
    return render(request, "evolve/new.html", {"form": form}, status=status)


def session(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Where the session stands: stage by stage, generation by generation, and the cards of now."""
    found = find(request, pk)
    generations = list(
        found.generations.select_related(
            "good__generation", "also_good__generation", "bad__generation", "campaign"
        ).order_by("-number")
    )
    now = generations[0] if generations else None
    context = {
        "evolution": found,
        "generations": [_strip(one) for one in generations],
        "now": now,
        "stages": _stages(now),
        "progress": queue.tally(now.campaign) if now and now.campaign else None,
        "cards": _cards(now) if now else [],
        "hidden": queue.tally(found.hidden_campaign) if found.hidden_campaign else None,
    }
    if (held := _confirming(found)) is not None:
        context["confirming"] = held
        context["waiting"] = queue.tally(held.campaign) if held.campaign else None
    partial = request.htmx and request.htmx.target == "session"
    return render(request, "evolve/session.html" + ("#live" if partial else ""), context)


def step(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Pause, resume, cancel, try again, or go on with the rankings there are."""
    found = find(request, pk)
    try:
        match request.POST.get("do"):
            case "pause":
                sessions.pause(found)
                said = "Paused. Jobs that run end; nothing new begins."
            case "resume":
                sessions.resume(found)
                said = "Resumed."
            case "cancel":
                sessions.cancel(found, request.user)
                said = "Cancelled. What was ranked and written stays."
            case "retry":
                sessions.retry(found)
                said = "Tried again, from the stage that failed."
            case "enough":
                latest = found.generations.order_by("-number").first()
                if latest is None:
                    raise ValueError("No generation has begun.")
                sessions.enough(latest)
                said = "The rankings there are will do; the order is worked out now."
            case _:
                raise ValueError("Say what is to be done.")
        messages.success(request, said)
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("evolution", request.project.slug, found.pk)


def lineage(request: PlumblineRequest, pk: int) -> HttpResponse:
    found = find(request, pk)
    context = {"evolution": found, "tree": pictures.tree(found)}
    return render(request, "evolve/lineage.html", context)


def generation(request: PlumblineRequest, pk: int, number: int) -> HttpResponse:
    """What the writer was told, and every reply with what became of it."""
    found = find(request, pk)
    row = get_object_or_404(
        found.generations.select_related(
            "good__generation", "also_good__generation", "bad__generation", "campaign"
        ),
        number=number,
    )
    programs = row.programs.select_related("same_as__generation", "repairs__generation")
    context = {
        "evolution": found,
        "generation": row,
        "title": f"Generation {row.number}",
        "programs": [(one, strength(row, one)) for one in programs],
        "hidden": hidden_share(row),
    }
    return render(request, "evolve/generation.html", context)


def find(request: PlumblineRequest, pk: int) -> Evolution:
    return get_object_or_404(
        Evolution.objects.select_related(
            "best__generation", "policy", "prompt_set", "rater__judge", "hidden_campaign"
        ).select_related("writer_endpoint", "rubric_endpoint", "created_by"),
        project=request.project,
        pk=pk,
    )


def strength(generation: Generation, program: Program) -> float | None:
    found = generation.figures.get("strengths", {}).get(str(program.pk))
    return None if found is None else float(found)


def hidden_share(generation: Generation) -> float | None:
    """How many of the hidden pairs the good program orders as people do, a share."""
    found = generation.figures.get("hidden")
    return found["right"] / found["pairs"] if found else None


def _confirming(found: Evolution) -> Confirmation | None:
    """The session's last confirmation."""
    every = Confirmation.objects.filter(program__generation__evolution=found)
    picked = every.select_related("program__generation", "policy", "incumbent__judge", "campaign")
    return picked.order_by("-created_at", "-pk").first()


def _strip(one: Generation) -> dict[str, Any]:
    total = one.figures.get("report", {}).get("total", {})
    return {
        "generation": one,
        "ahead": one.figures.get("ahead"),
        "rankings": one.figures.get("rankings"),
        "hidden": hidden_share(one),
        "hidden_pairs": (one.figures.get("hidden") or {}).get("pairs"),
        "best_agrees": total.get("best_agrees"),
        "length": total.get("length"),
        "cards": one.figures.get("cards"),
        "matching": one.figures.get("matching"),
        "valid": one.programs.exclude(status__in=("invalid", "draft")).count(),
        "calls": one.programs.count(),
    }


def _stages(now: Generation | None) -> list[tuple[str, str]]:
    """Each stage with where it stands: done, now, todo or failed."""
    if now is None:
        return []
    at = now.failed_at if now.stage == Stage.FAILED else now.stage
    shown: list[Stage] = [one for one in SHOWN if one != Stage.POOL or now.number == 1]
    if now.stage in (Stage.DONE, Stage.CANCELLED):
        return [(str(one.label), "done" if now.stage == Stage.DONE else "todo") for one in shown]
    place = shown.index(Stage(at)) if at in shown else 0
    states = ["done"] * place + ["failed" if now.stage == Stage.FAILED else "now"]
    states += ["todo"] * (len(shown) - len(states))
    return [(str(one.label), state) for one, state in zip(shown, states, strict=True)]


def _cards(now: Generation) -> list[dict[str, Any]]:
    """The first prompts' cards with who picked them, for researchers; raters never see it."""
    if now.campaign is None or now.over:
        return []
    arms = {one.pk: one for one in checking.contenders(now)}
    by_prompt = asking.cards(now)
    shown = now.campaign.comparisons.select_related("prompt").order_by("pk")[:3]
    found = []
    for comparison in shown:
        picked = by_prompt.get(comparison.prompt_id, {})
        answers = Completion.objects.in_bulk(list(picked))
        found.append(
            {
                "prompt": comparison.prompt,
                "answers": [
                    (answers[key], [arms[one] for one in programs if one in arms])
                    for key, programs in picked.items()
                ],
            }
        )
    return found
