"""A campaign's quality page, a person's page in it, and what a researcher may do on them."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.accounts.models import User
from plumbline.collect import campaigns, counts
from plumbline.collect.models import Campaign, Enrolment
from plumbline.collect.quality import (
    people,
    planting,
    position,
    reading,
    report,
    settings,
    suspicion,
    turned,
)
from plumbline.collect.quality.report import Material, Person, Report
from plumbline.permissions import PlumblineRequest

MOST_PLANTED = 100  # at once
PLANTED = 12  # offered


def campaign_page(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Figures of everybody, then of each person."""
    row = _campaign(request, campaign)
    places = {place.user_id: place for place in row.enrolments.all()}
    excluded = sorted(user for user, place in places.items() if place.excluded_at is not None)
    name = "quality:" + ",".join(map(str, excluded))
    figures = counts.kept(row, name, lambda: _figures(row, excluded))
    found: Report = figures["report"]
    seen: suspicion.Suspicion = figures["suspicion"]
    names = User.objects.in_bulk([one.rater for one in found.people])
    context = {
        **campaigns.frame(row, "quality"),
        **figures,
        "quality": settings.of(row),
        "figures": found.everybody,
        "people": [(names[one.rater], one, places.get(one.rater)) for one in found.people],
        "suspects": _suspects(seen, names),
        "planted": PLANTED,
        "most_planted": MOST_PLANTED,
        "no_planting": planting.why_not(row),
    }
    return render(request, "collect/quality.html", context)


def person_page(request: PlumblineRequest, campaign: int, person: int) -> HttpResponse:
    row, user = _campaign(request, campaign), _person(request, campaign, person)
    material = _material(row)
    everybody = position.overall(material.sided)
    biases = position.by_rater(material.sided, everybody) if everybody else {}
    theirs = [one for one in material.said if one.rater == user.pk]
    found = report.person(material, user.pk, theirs, biases.get(user.pk))
    context = {
        "campaign": row,
        "quality": material.quality,
        "person": user,
        "found": found,
        "figures": found.figures,
        "place": Enrolment.objects.filter(campaign=row, user=user).first(),
        "suggestion": _suggestion(found),
        "turned": turned.of(request.project, user),
    }
    return render(request, "collect/quality_person.html", context)


def plant(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Make gold from the campaign's own comparisons."""
    row = _campaign(request, campaign)
    count = request.POST.get("count", "")
    if not count.isdecimal() or not 1 <= int(count) <= MOST_PLANTED:
        messages.error(request, f"Plant between 1 and {MOST_PLANTED} known comparisons at once.")
        return redirect("quality", request.project.slug, row.pk)
    try:
        made = planting.plant(row, int(count), random.SystemRandom())
    except ValueError as error:
        messages.error(request, str(error))
    else:
        words = "known comparison is" if len(made) == 1 else "known comparisons are"
        messages.success(request, f"{len(made)} {words} planted. They look like any other.")
    return redirect("quality", request.project.slug, row.pk)


def place(request: PlumblineRequest, campaign: int, person: int) -> HttpResponse:
    """Pause a person, let them go on, set their votes aside, or count them again."""
    row, user = _campaign(request, campaign), _person(request, campaign, person)
    reason = request.POST.get("reason", "")
    try:
        match request.POST.get("do"):
            case "pause":
                people.pause(row, user, reason)
                messages.success(request, f"{user.username} gets no more comparisons here.")
            case "resume":
                people.resume(row, user)
                messages.success(request, f"{user.username} may go on.")
            case "exclude":
                seats = people.exclude(row, user, reason)
                messages.success(
                    request, f"{user.username} is excluded; {seats} votes are asked of others."
                )
            case "include":
                people.include(row, user)
                messages.success(request, f"The votes of {user.username} count again.")
            case _:
                messages.error(request, "Nothing was asked for.")
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("quality-person", request.project.slug, row.pk, user.pk)


def _campaign(request: PlumblineRequest, pk: int) -> Campaign:
    return get_object_or_404(Campaign, pk=pk, project=request.project)


def _person(request: PlumblineRequest, campaign: int, pk: int) -> User:
    """Somebody who has a place in the campaign or has answered in it."""
    here: QuerySet[User] = User.objects.filter(
        ballots__comparison__campaign=campaign
    ) | User.objects.filter(enrolments__campaign=campaign)
    return get_object_or_404(here.distinct(), pk=pk)


def _figures(campaign: Campaign, excluded: Collection[int]) -> dict[str, Any]:
    """What takes long on the page: in a large campaign it is up to a minute old."""
    material = _material(campaign)
    golds = material.golds.values()
    return {
        "report": report.report(material, excluded),
        "suspicion": suspicion.look(material, _texts(material), excluded),
        "golds": sum(not gold.retired for gold in golds),
        "disputed": sum(gold.disputed for gold in golds),
        "cut": len(material.said) >= reading.LATEST,
    }


def _texts(material: Material) -> suspicion.Texts:
    newest = sorted(material.first.values(), key=lambda one: one.at, reverse=True)
    return reading.texts({one.comparison for one in newest[: suspicion.PHRASE_VOTES]})


def _suspects(
    found: suspicion.Suspicion, names: Mapping[int, User]
) -> list[tuple[User, suspicion.Suspect | None, list[tuple[suspicion.Trigger, int, int]], str]]:
    """Each person something is said of: against others, phrases with counts, and the reason that
    an exclusion begins with."""
    against = {one.rater: one for one in found.people}
    rows = []
    for rater in found.raters:
        phrases = [
            (one, followed, of)
            for one in found.triggers
            for who, followed, of in one.raters
            if who == rater
        ]
        said = [f"always prefers “{one.phrase}” ({k} of {n})" for one, k, n in phrases]
        if (one := against.get(rater)) is not None:
            said.insert(0, f"agrees with others on {one.agreed} of {one.votes}")
        reason = f"Suspected of poisoning: {'; '.join(said)}."
        rows.append((names[rater], one, phrases, reason[: people.REASON]))
    return rows


def _material(campaign: Campaign) -> Material:
    said = reading.said(campaign)
    return Material(
        said,
        reading.golds(campaign),
        reading.characters(said, campaign),
        settings.of(campaign),
    )


def _suggestion(found: Person) -> dict[str, Any]:
    """The words a reason begins with, where a rule speaks."""
    if found.fails:
        return {"reason": "Fails too many known comparisons."}
    if found.leans:
        return {"reason": "Favours one side of the screen."}
    return {}
