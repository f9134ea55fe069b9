"""What a researcher may do about a person in a campaign: pause, let go on, exclude, take back in.

Excluding sets a person's votes aside for every round to come; what they said stays as it is. Their
seats go back, so that others are asked instead. Rounds that were already frozen keep their votes.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.audit.record import record
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment

REASON = 300  # characters, as Enrolment.pause_reason holds


@transaction.atomic
def pause(campaign: Campaign, user: User, reason: str) -> Enrolment:
    """No more comparisons for this person until `resume`. Raises ValueError without a reason."""
    reason = _said(reason)
    place = _place(campaign, user)
    place.paused_at, place.pause_reason = place.paused_at or timezone.now(), reason
    place.save(update_fields=["paused_at", "pause_reason"])
    _tell("annotator.paused", place)
    return place


@transaction.atomic
def resume(campaign: Campaign, user: User) -> Enrolment:
    place = _place(campaign, user)
    place.paused_at, place.pause_reason = None, ""
    place.save(update_fields=["paused_at", "pause_reason"])
    _tell("annotator.resumed", place)
    return place


@transaction.atomic
def exclude(campaign: Campaign, user: User, reason: str) -> int:
    """Pause and set the person's votes aside; how many. Raises ValueError without a reason."""
    reason = _said(reason)
    theirs = Ballot.objects.filter(
        annotator=user, comparison__campaign=campaign, seat__isnull=False
    ).exclude(outcome="")
    asked_again = Comparison.objects.select_for_update().filter(
        pk__in=list(theirs.values_list("comparison", flat=True))
    )
    list(asked_again.order_by("pk").values_list("pk"))  # their locks, before their ballots change
    freed = theirs.update(seat=None)
    asked_again.update(full=False)
    place = pause(campaign, user, reason)  # after the comparisons, as a vote of theirs does
    place.excluded_at = place.excluded_at or timezone.now()
    place.save(update_fields=["excluded_at"])
    _tell("annotator.excluded", place, votes=freed)
    return freed


@transaction.atomic
def include(campaign: Campaign, user: User) -> Enrolment:
    """Count the person's votes again, beside those of whoever was asked instead."""
    place = resume(campaign, user)
    place.excluded_at = None
    place.save(update_fields=["excluded_at"])
    _tell("annotator.included", place)
    return place


def _tell(what: str, place: Enrolment, **details: Any) -> None:
    project, campaign = place.campaign.project_id, place.campaign_id
    record(what, place.user, project=project, campaign=campaign, **details)


def _said(reason: str) -> str:
    reason = reason.strip()[:REASON]
    if not reason:
        raise ValueError("Say why; the reason is kept with the person's place in the campaign.")
    return reason


def _place(campaign: Campaign, user: User) -> Enrolment:
    place, _ = Enrolment.objects.get_or_create(campaign=campaign, user=user)
    return place
