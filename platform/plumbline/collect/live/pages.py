"""What the script of a live comparison asks, and the page where people write prompts.

What is sent to a browser says nothing of who writes: places on the screen, text, and sentences of
our own.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache

from plumbline.collect import queue
from plumbline.collect.live import answers, settings, starting
from plumbline.collect.models import Ballot, Campaign
from plumbline.collect.queue import Refused, history
from plumbline.collect.render import markdown
from plumbline.collect.screen import words
from plumbline.permissions import PlumblineRequest

NAMES = "ab"  # of the two places


@never_cache
def news(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """What has come since: `?a=ATTEMPT.SEEN&b=ATTEMPT.SEEN`, as earlier news told them."""
    row = _ballot(request, ballot)
    if row.outcome or not answers.unfinished(row.comparison):
        return JsonResponse({"open": False})
    have = [answers.read(request.GET.get(name, "")) for name in NAMES]
    told = [
        _told(side, *before) for side, before in zip(answers.sides(row, have), have, strict=True)
    ]
    return JsonResponse({"open": True, "answers": told})


def again(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """Have one side written anew that broke off."""
    row = _ballot(request, ballot)
    place, attempt = NAMES.find(request.POST.get("place", "")), request.POST.get("attempt", "")
    if place not in (0, 1) or not attempt.isdecimal() or row.comparison.kind != "live":
        raise Http404
    can_be = answers.again(row, place, int(attempt[:4]))
    return HttpResponse(status=204 if can_be else 409)


@never_cache
def write(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Write a message: a new conversation, or on with the answer one preferred just now."""
    row = get_object_or_404(Campaign, pk=campaign, project=request.project)
    live = settings.of(row)
    if live is None or not live.writing:
        raise Http404
    last = queue.last_said(request.user, row)
    thread = starting.conversation(last) if "new" not in request.GET else []
    context: dict[str, Any] = {
        "campaign": row,
        "thread": thread,
        "after": last if thread else None,
        "longest": starting.LONGEST_MESSAGE,
        "why_not": queue.why_not(request.user, row),
        "prompts_left": starting.prompts_left(row),
        "open": history.live_claims(request.user, row).exists(),
    }
    if request.method == "POST":
        words = request.POST.get("words", "")
        try:
            begun = starting.write(request.user, row, words, _after(request, row))
        except Refused as refused:
            context |= {"wrong": str(refused), "words": words}
            return render(request, "collect/write.html", context, status=422)
        return redirect("ballot", request.project.slug, begun.pk)
    return render(request, "collect/write.html", context)


def _after(request: PlumblineRequest, campaign: Campaign) -> Ballot | None:
    """The person's own vote that a message goes on from."""
    given = request.POST.get("after", "")
    if not given:
        return None
    try:
        wanted = UUID(given)
    except ValueError:
        raise Http404 from None
    return get_object_or_404(
        Ballot.objects.select_related("comparison__prompt"),
        pk=wanted,
        annotator=request.user,
        comparison__campaign=campaign,
    )


def _told(side: answers.Side, attempt: int, seen: int) -> dict[str, Any]:
    at = min(seen, len(side.text)) if attempt == side.attempt else 0
    told: dict[str, Any] = {
        "state": side.state,
        "attempt": side.attempt,
        "at": at,
        "more": side.text[at:],
        "upto": side.upto,
    }
    if side.state == "done" and (attempt, seen) != (side.attempt, side.upto):
        told |= {"html": markdown(side.text), "cut": side.cut_off, "words": words(side.text)}
    if side.trouble:
        told["trouble"] = side.trouble
    return told


def _ballot(request: PlumblineRequest, pk: UUID) -> Ballot:
    """A ballot of one's own; anybody else's does not exist."""
    return get_object_or_404(
        Ballot.objects.select_related("comparison"),
        pk=pk,
        annotator=request.user,
        comparison__campaign__project=request.project,
    )
