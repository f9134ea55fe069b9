"""The training phase: comparisons with a known answer that a person meets first, with feedback.

Each is answered once. Whoever has answered them all and got the share right that the campaign asks
for (`training_pass`) has passed, for good; for the others a researcher decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, QuerySet
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import skill
from plumbline.collect.queue import seats
from plumbline.collect.votes import SAID
from plumbline.compiled import Given

KIND = Comparison.Kind.TRAINING


@dataclass(frozen=True)
class Feedback:
    """What to tell a person after a training comparison."""

    right: bool | None  # None: skipped or flagged
    expected: dict[str, Any]  # fields of a verdict
    explanation: str
    left: int  # training comparisons still to come
    passed: bool  # the training as a whole


def of_campaign(campaign: Campaign | Given) -> QuerySet[Comparison]:
    return Comparison.objects.filter(
        campaign=campaign, kind=KIND, retired_at__isnull=True, only_for__isnull=True
    )


def left_for(user: User, campaign: Campaign) -> QuerySet[Comparison]:
    """The training comparisons this person has not answered, in the order they are asked."""
    said = Ballot.objects.filter(comparison=OuterRef("pk"), annotator=user, outcome__in=SAID)
    unanswered = of_campaign(campaign).alias(said=seats.count(said)).filter(said=0)
    return unanswered.order_by("-priority", "id")


def review(ballot: Ballot) -> None:
    """At the end of `cast` and of a skip: has the person passed with this answer?"""
    if ballot.comparison.kind != KIND:
        return
    campaign, user = ballot.comparison.campaign, ballot.annotator
    if left_for(user, campaign).exists() or not _enough(user, campaign):
        return
    let_in(user, campaign)


def let_in(user: User, campaign: Campaign) -> None:
    """The person has passed, or a researcher says that they may go on."""
    Enrolment.objects.get_or_create(campaign=campaign, user=user)
    Enrolment.objects.filter(campaign=campaign, user=user, trained_at=None).update(
        trained_at=timezone.now()
    )


def feedback(ballot: Ballot) -> Feedback | None:
    """For an answered training comparison; None for any other."""
    comparison = ballot.comparison
    if comparison.kind != KIND or ballot.outcome not in SAID:
        return None
    user, campaign = ballot.annotator, comparison.campaign
    passed = Enrolment.objects.filter(campaign=campaign, user=user, trained_at__isnull=False)
    expected = comparison.expected or {}
    return Feedback(
        right=skill.passes(expected, ballot),
        expected=expected,
        explanation=comparison.explanation,
        left=left_for(user, campaign).count(),
        passed=passed.exists(),
    )


def _enough(user: User, campaign: Campaign) -> bool:
    answers = Ballot.objects.filter(
        comparison__in=of_campaign(campaign), annotator=user, outcome__in=SAID
    )
    right = {
        ballot.comparison_id: bool(skill.passes(ballot.comparison.expected or {}, ballot))
        for ballot in answers.select_related("comparison").order_by("revision")
    }
    return 100 * sum(right.values()) >= campaign.training_pass * of_campaign(campaign).count()
