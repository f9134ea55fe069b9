"""The page where one comparison at a time is answered, and what can be done with a ballot.

Opening a page never changes anything: a claim is a POST. After each answer the next comparison
comes with the same response, as the swapped part of the page for htmx or by a 303 without it; what
an outbox sends again gets a sentence as JSON instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect, push_url

from align import failpoints
from plumbline.collect import addresses, keys, kinds, live, queue, review, screen
from plumbline.collect.changes import lines_as_python
from plumbline.collect.forms import (
    FLAG_REASONS,
    SKIP_REASONS,
    BallotForm,
    FlagForm,
    SkipForm,
    UndoForm,
    given,
    sentences,
)
from plumbline.collect.models import Ballot, Campaign, Flag
from plumbline.collect.quality import settings, speed
from plumbline.collect.votes import VOTES
from plumbline.compiled import Compiled, given_id, given_uuid
from plumbline.permissions import PlumblineRequest

UNKEPT = "Not kept: "
UNDONE = "Taken back. Answer again when you are ready."
TOLD = {
    Ballot.Outcome.SKIPPED.value: "Skipped. You will not be asked this one again.",
    Ballot.Outcome.FLAGGED.value: "Flagged. A researcher will look at it.",
}


class SeeOther(HttpResponseRedirect):
    status_code = 303


def claim(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Get the next comparison, or the one already open."""
    return _next(request, campaign_of(request, campaign))


@never_cache
def ballot(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """One comparison: read it, answer it; afterwards, what was said of it."""
    row = _ballot(request, ballot)
    if request.method == "POST":
        return _cast(request, row)
    if row.outcome:
        return _answered(request, row)
    if not queue.is_live(row):
        context = {"ballot": row, "campaign": row.comparison.campaign}
        return render(request, "collect/expired.html", context)
    return _show(request, row)


def draft(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """Keep what is filled in so far. A ballot that is answered or lost keeps nothing."""
    row = _ballot(request, ballot)
    try:
        queue.save_draft(row, given(request.POST))
    except ValueError as refused:
        return HttpResponse(UNKEPT + str(refused), status=409, content_type="text/plain")
    return HttpResponse(status=204)


def changes(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """What a correction changes in an answer, as it is typed."""
    row = _ballot(request, ballot)
    try:
        n = int(request.POST.get("answer", ""))
        pane = screen.panes(row)[n]
    except (ValueError, IndexError):
        raise Http404 from None
    after = lines_as_python(request.POST.get(f"correct_{n}", ""))
    before = lines_as_python(pane.text)
    context = {"before": before, "after": after}
    return render(request, "collect/changes.html", context) if after != before else HttpResponse()


def difference(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """What differs between the two answers of a pair, each in its own pane."""
    row = _ballot(request, ballot)
    panes = screen.panes(row)
    if len(panes) != 2:
        raise Http404
    return render(request, "collect/difference.html", {"a": panes[0], "b": panes[1]})


def skip(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    row = _ballot(request, ballot)
    form = SkipForm(request.POST)
    if not form.is_valid():
        return _unclear(request, row, "Choose a reason to skip.")
    said = form.cleaned_data
    return _decline(request, row, lambda: live.skip(row, said["reason"], said["key"]))


def flag(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """Call a comparison harmful or broken: a researcher looks at it."""
    row = _ballot(request, ballot)
    form = FlagForm(request.POST)
    if not form.is_valid():
        return _unclear(request, row, "Choose a reason to flag it.")
    said = form.cleaned_data
    return _decline(
        request, row, lambda: live.flag(row, said["reason"], said["words"], said["key"])
    )


def reopen(request: PlumblineRequest, ballot: UUID) -> HttpResponse:
    """Change an answer of one's own: a new revision, whether or not a round has used the old."""
    row = _ballot(request, ballot)
    try:
        again = queue.reopen(row)
    except queue.Refused as refused:
        messages.warning(request, str(refused))
        return _go(request, row)
    if queue.frozen(row):
        messages.info(request, "A round has used your answer; a new one counts from now on.")
    return _go(request, again)


def undo(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Take back the answer the page named; sent twice it still takes back only that one."""
    row = campaign_of(request, campaign)
    form = UndoForm(request.POST)
    latest = queue.last_said(request.user, row)
    reopened = None
    if form.is_valid() and latest is not None and latest.pk == form.cleaned_data["ballot"]:
        try:
            reopened = queue.undo(request.user, row)
        except queue.Refused as refused:
            if _from_outbox(request):
                return JsonResponse({"refused": str(refused)}, status=409)
            messages.warning(request, str(refused))
    if _from_outbox(request):
        return JsonResponse({"saved": UNDONE})
    if reopened is None:
        return _next(request, row)
    messages.info(request, UNDONE)
    return _go(request, reopened)


def campaign_of(request: PlumblineRequest, pk: int) -> Campaign:
    return get_object_or_404(Campaign, pk=pk, project=request.project)


_OWN = Compiled(
    lambda: (
        Ballot.objects.select_related("comparison__campaign")
        .filter(
            pk=given_uuid("ballot"),
            annotator=given_id("user"),
            comparison__campaign__project=given_id("project"),
        )
        .order_by()
    )
)


def _ballot(request: PlumblineRequest, pk: UUID) -> Ballot:
    """A ballot of one's own; anybody else's does not exist."""
    found = _OWN.first(ballot=pk, user=request.user.pk, project=request.project.pk)
    if found is None:
        raise Http404
    return found


def _cast(request: PlumblineRequest, row: Ballot) -> HttpResponse:
    form = BallotForm(row, request.POST)
    if not form.is_valid():
        return _unclear(request, row, *sentences(form), sent=request.POST)
    if review.due(row, request.POST) and not _from_outbox(request):
        seen_again = review.of(row, form.verdict(), request.POST)
        return _show(request, row, request.POST, look=seen_again)
    try:
        seen = live.seen(row, request.POST)
        stored = live.cast(row, form.verdict(), form.cleaned_data["key"], seen)
        failpoints.reach("vote.committed")
    except queue.Refused as refused:
        return _refused(request, row, refused)
    except ValueError as wrong:  # it fits the form but not the campaign, which has changed since
        return _unclear(request, row, str(wrong), sent=request.POST)
    if not _from_outbox(request) and queue.feedback(stored) is not None:
        messages.success(request, _told(stored))  # training: what was expected, before going on
        url = addresses.ballot(request.project.slug, row.pk)
        return HttpResponseClientRedirect(url) if request.htmx else SeeOther(url)
    return _stored(request, stored)


def _decline(request: PlumblineRequest, row: Ballot, say: Callable[[], Ballot]) -> HttpResponse:
    try:
        return _stored(request, say())
    except queue.Refused as refused:
        return _refused(request, row, refused)


def _stored(request: PlumblineRequest, stored: Ballot) -> HttpResponse:
    """What is stored, told from the row, and on to the next comparison."""
    if _from_outbox(request):
        return JsonResponse({"saved": _told(stored)})
    messages.success(request, _told(stored))
    return _next(request, stored.comparison.campaign, stored)


def _refused(request: PlumblineRequest, row: Ballot, why: queue.Refused) -> HttpResponse:
    if _from_outbox(request):
        return JsonResponse({"refused": str(why)}, status=409)
    messages.warning(request, str(why))
    return _next(request, row.comparison.campaign, row)


def _unclear(
    request: PlumblineRequest, row: Ballot, *why: str, sent: QueryDict | None = None
) -> HttpResponse:
    """What was sent cannot be taken as it is: the same comparison again, and why."""
    if _from_outbox(request):
        return JsonResponse({"refused": why[0]}, status=422)
    if sent is not None:
        return _show(request, row, sent, list(why))
    messages.warning(request, why[0])
    return _go(request, row)


def _told(stored: Ballot) -> str:
    return TOLD.get(stored.outcome) or f"Saved: {screen.sentence(stored)}"


def _from_outbox(request: PlumblineRequest) -> bool:
    """Whether a browser sends what it kept (static/outbox.js): it wants a sentence as JSON."""
    return request.headers.get("Accept") == "application/json"


def _next(
    request: PlumblineRequest, campaign: Campaign, before: Ballot | None = None
) -> HttpResponse:
    """On to the next comparison, or to where one is begun by writing, or to the campaign's page.
    Whoever has answered what they wrote themselves, `before`, writes again."""
    found = queue.claim(request.user, campaign)
    if isinstance(found, queue.Claim):
        return _begin(request, found)
    writing = before is not None and live.written(before)
    if found is None and not writing:
        try:
            found = live.begin(request.user, campaign)
        except queue.Refused as refused:
            messages.warning(request, str(refused))
    if found is not None:
        return _go(request, found)
    place = "live-write" if writing and live.writes(request.user, campaign) else "campaign"
    url = reverse(place, args=[request.project.slug, campaign.pk])
    return HttpResponseClientRedirect(url) if request.htmx else SeeOther(url)


def _begin(request: PlumblineRequest, claim: queue.Claim) -> HttpResponse:
    """The page of a new claim, of which nearly all is known."""
    row, campaign = claim.ballot, claim.ballot.comparison.campaign
    url = addresses.ballot(request.project.slug, row.pk)
    if not request.htmx:
        return SeeOther(url)
    said: Mapping[str, Any] = {}
    previous = claim.last
    if row.revises is not None:  # taken back before, or not answered in time
        said, before = _said_before(row), queue.previous(row)
        previous = before.pk if before else None
    history = {
        "progress": queue.seen(request.user, campaign, claim.place),
        "last": claim.last,
        "previous": previous,
    }
    return push_url(_page(request, row, said, history), url)


def _go(request: PlumblineRequest, row: Ballot) -> HttpResponse:
    url = addresses.ballot(request.project.slug, row.pk)
    if not request.htmx:
        return SeeOther(url)
    return push_url(_show(request, _ballot(request, row.pk)), url)


def _show(
    request: PlumblineRequest,
    row: Ballot,
    sent: QueryDict | None = None,
    wrong: list[str] | None = None,
    look: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """A comparison that is open. What was `sent` comes back with what is wrong with it, or for a
    last look before it is kept."""
    drafted = queue.draft(row)
    said = drafted or _said_before(row) if sent is None else given(sent)
    campaign = row.comparison.campaign
    last, before = queue.last_said(request.user, campaign), queue.previous(row)
    history = {
        "progress": queue.seen(request.user, campaign),
        "last": last and last.pk,
        "previous": before and before.pk,
        "drafted": bool(drafted),
        "review": look,
        "active_ms": sent.get("active_ms", "") if sent is not None else "",
    }
    return _page(request, row, said, history, wrong)


def _page(
    request: PlumblineRequest,
    row: Ballot,
    said: Mapping[str, Any],
    history: Mapping[str, Any],
    wrong: list[str] | None = None,
) -> HttpResponse:
    """`said`: what the form starts with; `history`: the person's in the campaign."""
    chosen, previous = kinds.parts(row), history["previous"]
    context = _reading(request, row) | {
        "at_panes": kinds.at_panes(chosen, len(row.shown), said),
        "at_bar": kinds.at_bar(chosen, said),
        "wrong": wrong,
        "pace": "" if said else speed.pace(settings.of(row.comparison.campaign)),
        "key": uuid4(),
        "key_list": keys.listing(request.user, request.project.slug),
        "skip_reasons": _choices(SKIP_REASONS),
        "flag_reasons": _choices(FLAG_REASONS),
        "at": addresses.page(request.project.slug, row.comparison.campaign_id, row.pk),
        "previous_at": previous and addresses.ballot(request.project.slug, previous),
        **history,
    }
    swap = request.htmx and not request.htmx.history_restore_request
    template = "collect/ballot.html" + ("#ballot" if swap else "")
    return render(request, template, context, status=422 if wrong else 200)


@lru_cache
def _choices(reasons: tuple[str, ...]) -> SafeString:
    """A menu's buttons, the same on each page."""
    return render_to_string("collect/reasons.html", {"reasons": reasons})


def _answered(request: PlumblineRequest, row: Ballot) -> HttpResponse:
    """What was said of a comparison, with the comparison, and the way to change it."""
    context = _reading(request, row) | {
        "said": screen.sentence(row),
        "flag": Flag.objects.filter(ballot=row).first(),
        "feedback": (feedback := queue.feedback(row)),
        "expected": screen.expected(row, feedback.expected) if feedback else "",
        "corrected": screen.corrected(row),
        "marked": screen.marked(row),
        "previous": queue.previous(row),
        "following": queue.following(row),
        "frozen": queue.frozen(row),
        "key_list": keys.listing(request.user, request.project.slug),
    }
    return render(request, "collect/answered.html", context)


def _reading(request: PlumblineRequest, row: Ballot) -> dict[str, Any]:
    return {
        "ballot": row,
        "campaign": row.comparison.campaign,
        "live": live.unfinished(row.comparison),
        "turns": row.comparison.prompt.messages,
        "panes": screen.panes(row),
    }


def _said_before(row: Ballot) -> Mapping[str, Any]:
    """What this ballot takes back or changes, as its form said it; of a skip the draft it left."""
    before = row.revises
    while before is not None and before.outcome in ("", Ballot.Outcome.WITHDRAWN):
        before = before.revises
    if before is None:
        return {}
    return kinds.fill(before) if before.outcome in VOTES else queue.draft(before)
