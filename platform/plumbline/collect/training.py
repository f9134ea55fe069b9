"""The training phase as researchers write it, and the page where a person sees how they stand.

`queue.training` asks the comparisons and says who has passed; here one is put in or taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from plumbline.collect import asking, queue
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import skill
from plumbline.collect.quality.planting import EVERYBODY
from plumbline.collect.queue import training
from plumbline.permissions import PlumblineRequest

Kind = Comparison.Kind


@never_cache
def page(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """What the training is, how far one is, and what was expected so far."""
    row = get_object_or_404(Campaign, pk=campaign, project=request.project)
    items = training.of_campaign(row).count()
    here = queue.standing(row.comparisons.filter(kind=Kind.TRAINING, retired_at=None))
    mine = here.filter(annotator=request.user).select_related("comparison").order_by("cast_at")
    answered = [
        (ballot, bool(skill.passes(ballot.comparison.expected or {}, ballot))) for ballot in mine
    ]
    context = {
        "campaign": row,
        "items": items,
        "answered": answered,
        "left": training.left_for(request.user, row).count(),
        "right": sum(right for _, right in answered),
        "needed": -(-items * row.training_pass // 100),  # rounded up
        "passed": Enrolment.objects.filter(
            campaign=row, user=request.user, trained_at__isnull=False
        ).exists(),
        "why_not": queue.why_not(request.user, row),
    }
    return render(request, "collect/campaigns/training.html", context)


@transaction.atomic
def teach(comparison: Comparison, expected: Mapping[str, Any], explanation: str) -> Comparison:
    """Make a training item of a comparison, or change it. Raises ValueError.

    A comparison that people have seen in earnest keeps their votes, so a copy of it is taught.
    """
    if not explanation.strip():
        raise ValueError("Explain why; people read it after their answer.")
    return _known(comparison, Kind.TRAINING, expected, explanation.strip())


@transaction.atomic
def hide(comparison: Comparison, expected: Mapping[str, Any]) -> Comparison:
    """Make a hidden test of a comparison, or a copy of it where people have seen it, as `teach`
    does. Raises ValueError."""
    if not {"ranking", "ratings"} & {name for name, value in expected.items() if value} and (
        expected.get("outcome") != Ballot.Outcome.ALL_BAD
    ):
        raise ValueError("A hidden test has a known ranking or ratings; here people give neither.")
    return _known(comparison, Kind.GOLD, expected, "")


def _known(
    comparison: Comparison, kind: Comparison.Kind, expected: Mapping[str, Any], explanation: str
) -> Comparison:
    row = Comparison.objects.select_for_update(of=("self",)).get(pk=comparison.pk)
    if row.kind in (Kind.REPEAT, Kind.GOLD):
        raise ValueError("This is a hidden test already, and stays one.")
    slots = [slot.slot for slot in row.slots.all()]
    given = sorted(slot for group in expected.get("ranking", []) for slot in group)
    if expected.get("outcome") == Ballot.Outcome.RANKED and given != slots:
        raise ValueError("The expected ranking must place each answer exactly once.")
    if expected.get("ratings"):
        asking.check_ratings(expected["ratings"], slots, asking.criteria(row.campaign.criteria))
    if row.kind != kind and row.ballots.exists():
        row = _copy(row, kind)
    row.kind, row.overlap, row.full = kind, EVERYBODY, False
    row.expected, row.explanation = dict(expected), explanation
    row.save()
    return row


@transaction.atomic
def stop_teaching(comparison: Comparison) -> None:
    """Take an item out of the training. Where nobody has answered it, people are asked it again
    in earnest; else it is retired. Raises ValueError for what is no training item."""
    row = Comparison.objects.select_for_update(of=("self",)).get(pk=comparison.pk)
    if row.kind != Kind.TRAINING:
        raise ValueError("This is no training comparison.")
    if row.ballots.exists() or row.why.get("copy"):
        row.retired_at = timezone.now()
    else:
        row.kind, row.overlap, row.expected, row.explanation = Kind.ORDINARY, None, None, ""
    row.save()


def _copy(row: Comparison, kind: Comparison.Kind) -> Comparison:
    made = Comparison.objects.create(
        campaign_id=row.campaign_id,
        prompt_id=row.prompt_id,
        kind=kind,
        strategy=kind,
        overlap=EVERYBODY,
        expected={},
        why={"copy": row.pk},
    )
    for slot in row.slots.all():
        made.slots.create(completion_id=slot.completion_id, slot=slot.slot)
    return made
