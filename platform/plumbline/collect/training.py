"""The training phase: comparisons with a known answer and an explanation, before those that count.

A person answers each once, sees whether it was as expected and why, and passes with the share of
right ones that the campaign asks for. Who does not pass goes through them again. What is answered
here trains no policy.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect import asking, queue
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import skill
from plumbline.collect.quality.planting import EVERYBODY

Kind = Comparison.Kind
_shuffle = random.SystemRandom()


@dataclass(frozen=True)
class Standing:
    """Where a person is in a campaign's training. `answered` holds their latest answers."""

    items: int
    answered: tuple[Ballot, ...]
    right: int
    needed: int
    passed: bool  # or there is nothing to pass

    @property
    def done(self) -> bool:
        return len(self.answered) >= self.items

    @property
    def failed(self) -> bool:
        return self.done and not self.passed


def standing(user: User, campaign: Campaign) -> Standing:
    taught = set(items(campaign).values_list("pk", flat=True))
    latest = {ballot.comparison_id: ballot for ballot in _said(user, campaign)}
    found = tuple(ballot for pk, ballot in latest.items() if pk in taught)
    right = sum(is_right(ballot) for ballot in found)
    needed = -(-len(taught) * campaign.training_pass // 100)  # rounded up
    before = Enrolment.objects.filter(campaign=campaign, user=user, trained_at__isnull=False)
    passed = not needed or before.exists()
    return Standing(len(taught), found, right, needed, passed)


def due(user: User, campaign: Campaign) -> bool:
    """Whether the person must pass the training before anything else; two cheap questions."""
    if not campaign.training_pass or not items(campaign).exists():
        return False
    passed = Enrolment.objects.filter(campaign=campaign, user=user, trained_at__isnull=False)
    return not passed.exists()


def is_right(ballot: Ballot) -> bool:
    return bool(skill.passes(ballot.comparison.expected or {}, ballot))


def claim(user: User, campaign: Campaign) -> Ballot | None:
    """The training comparison to answer now, or None when there is none left."""
    with transaction.atomic():
        _lock(user)
        open_one = Ballot.objects.filter(
            annotator=user,
            comparison__campaign=campaign,
            comparison__kind=Kind.TRAINING,
            outcome="",
            expires_at__gt=timezone.now(),
        )
        if (mine := open_one.order_by("-claimed_at").first()) is not None:
            return mine
        said = {ballot.comparison_id for ballot in _said(user, campaign)}
        item = items(campaign).exclude(pk__in=said).order_by("-priority", "pk").first()
        return None if item is None else _open(user, item)


def settle(user: User, campaign: Campaign) -> Standing:
    """After an answer: note that the person has passed, as soon as they have the right answers."""
    found = standing(user, campaign)
    if found.passed or not found.done or found.right < found.needed:
        return found
    place, _ = Enrolment.objects.get_or_create(campaign=campaign, user=user)
    place.trained_at = timezone.now()
    place.save(update_fields=["trained_at"])
    return standing(user, campaign)


@transaction.atomic
def again(user: User, campaign: Campaign) -> None:
    """Go through the training anew: earlier answers are withdrawn, not deleted.

    Raises ValueError for who has not failed it.
    """
    _lock(user)
    found = standing(user, campaign)
    if not found.failed:
        raise ValueError("There is no training to repeat.")
    now = timezone.now()
    for ballot in found.answered:
        Ballot.objects.filter(pk=ballot.pk).update(seat=None)
        Ballot.objects.create(
            comparison=ballot.comparison,
            annotator=user,
            revision=ballot.revision + 1,
            revises=ballot,
            shown=ballot.shown,
            settings_version=campaign.settings_version,
            claimed_at=now,
            expires_at=now + timedelta(seconds=1),
            cast_at=now,
            outcome=Ballot.Outcome.WITHDRAWN,
        )


@transaction.atomic
def teach(comparison: Comparison, expected: Mapping[str, Any], explanation: str) -> Comparison:
    """Make a training item of a comparison, or change it. Raises ValueError.

    A comparison that people have voted on in earnest keeps those votes, so a copy of it is taught.
    """
    row = Comparison.objects.select_for_update(of=("self",)).get(pk=comparison.pk)
    if row.kind in (Kind.REPEAT, Kind.GOLD):
        raise ValueError("A known or repeated comparison is a hidden test; it cannot teach.")
    if not explanation.strip():
        raise ValueError("Explain why; people read it after their answer.")
    slots = [slot.slot for slot in row.slots.all()]
    given = sorted(slot for group in expected.get("ranking", []) for slot in group)
    if expected.get("outcome") == Ballot.Outcome.RANKED and given != slots:
        raise ValueError("The expected ranking must place each answer exactly once.")
    if expected.get("ratings"):
        scales = asking.criteria(row.campaign.criteria)
        asking.check_ratings(expected["ratings"], slots, scales)
    if row.kind != Kind.TRAINING and row.ballots.exists():
        row = _copy(row)
    row.kind, row.overlap, row.full = Kind.TRAINING, EVERYBODY, False
    row.expected, row.explanation = dict(expected), explanation.strip()
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


def _copy(row: Comparison) -> Comparison:
    made = Comparison.objects.create(
        campaign_id=row.campaign_id,
        prompt_id=row.prompt_id,
        kind=Kind.TRAINING,
        strategy=Kind.TRAINING,
        overlap=EVERYBODY,
        expected={},
        why={"copy": row.pk},
    )
    for slot in row.slots.all():
        made.slots.create(completion_id=slot.completion_id, slot=slot.slot)
    return made


def items(campaign: Campaign) -> QuerySet[Comparison]:
    """Comparisons that are in the training now."""
    return Comparison.objects.filter(campaign=campaign, kind=Kind.TRAINING, retired_at=None)


def _said(user: User, campaign: Campaign) -> list[Ballot]:
    """The person's standing answers to training comparisons, oldest first."""
    here = campaign.comparisons.filter(kind=Kind.TRAINING)
    found = queue.standing(here).filter(annotator=user).select_related("comparison")
    return list(found.order_by("cast_at"))


def _open(user: User, item: Comparison) -> Ballot:
    """A claim whose seat is the next free one: everybody may answer a training comparison."""
    locked = Comparison.objects.select_for_update(of=("self",)).get(pk=item.pk)
    before = locked.ballots.filter(annotator=user).order_by("-revision").first()
    last = locked.ballots.aggregate(seat=Max("seat"))["seat"]
    shown = list(before.shown) if before else [slot.slot for slot in locked.slots.all()]
    if before is None:
        _shuffle.shuffle(shown)
    now = timezone.now()
    return Ballot.objects.create(
        comparison=locked,
        annotator=user,
        revision=before.revision + 1 if before else 1,
        revises=before,
        seat=0 if last is None else last + 1,
        shown=shown,
        settings_version=item.campaign.settings_version,
        claimed_at=now,
        expires_at=now + timedelta(seconds=item.campaign.lease_seconds),
    )


def _lock(user: User) -> None:
    """One claim of a person at a time, as the queue's."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
