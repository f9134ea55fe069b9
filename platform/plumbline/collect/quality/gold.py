"""Known comparisons at work: who passed them, when to pause somebody, when to doubt the gold.

Gold is only as good as whoever planted it: when two people of proven skill fail the same one, the
gold is retired and counts against nobody.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable

from django.utils import timezone

from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.quality import settings, skill
from plumbline.collect.quality.settings import Quality
from plumbline.collect.quality.skill import Skill
from plumbline.collect.votes import SAID

log = logging.getLogger(__name__)
DOUBTERS = 2  # people of proven skill who fail the same gold before it is retired
DISPUTED = "disputed_by"  # in a retired gold's `why`: the ids of those who failed it
Results = dict[int, dict[int, bool]]  # by person, by gold comparison: passed


def results(campaign: Campaign, people: Iterable[int] | None = None) -> Results:
    """Who passed which gold; each person's latest answer counts, disputed gold does not."""
    ballots = Ballot.objects.filter(
        comparison__campaign=campaign, comparison__kind=Comparison.Kind.GOLD, outcome__in=SAID
    )
    if people is not None:
        ballots = ballots.filter(annotator__in=list(people))
    found: Results = defaultdict(dict)
    for ballot in ballots.select_related("comparison").order_by("revision"):
        comparison = ballot.comparison
        passed = skill.passes(comparison.expected or {}, ballot)
        if passed is not None and DISPUTED not in comparison.why:
            found[ballot.annotator_id][comparison.pk] = passed
    return found


def skill_of(quality: Quality, passed: Iterable[bool]) -> Skill:
    outcomes = list(passed)
    return skill.of(quality, sum(outcomes), len(outcomes) - sum(outcomes))


def review(ballot: Ballot) -> None:
    """What a vote just stored means for its voter and for the gold it answers.

    For the queue, at the end of `cast`'s transaction; on anything but gold it does nothing and
    asks the database nothing when `ballot.comparison.campaign` is loaded. Pauses the person by the
    campaign's rule, or retires a gold that skilled people dispute.
    """
    comparison = ballot.comparison
    if comparison.kind != Comparison.Kind.GOLD:
        return
    quality = settings.of(comparison.campaign)
    if skill.passes(comparison.expected or {}, ballot) is False and _doubted(comparison, quality):
        return
    found = results(comparison.campaign, [ballot.annotator_id])[ballot.annotator_id]
    theirs = skill_of(quality, found.values())
    if quality.pause and skill.must_pause(theirs, quality):
        _pause(ballot, theirs, quality)


def _doubted(comparison: Comparison, quality: Quality) -> bool:
    """Retire a gold that people fail who pass the others. Whether it was retired, now or before."""
    if DISPUTED in comparison.why:
        return True
    answered = results(
        comparison.campaign, comparison.ballots.values_list("annotator", flat=True).distinct()
    )
    doubters = [
        person
        for person, passed in answered.items()
        if passed.get(comparison.pk) is False
        and skill.proven(
            skill_of(quality, [ok for gold, ok in passed.items() if gold != comparison.pk]), quality
        )
    ]
    if len(doubters) < DOUBTERS:
        return False
    comparison.why = {**comparison.why, DISPUTED: sorted(doubters)}
    comparison.retired_at = timezone.now()
    comparison.save(update_fields=["why", "retired_at"])
    log.warning("gold %s is retired: people %s failed it", comparison.pk, sorted(doubters))
    return True


def _pause(ballot: Ballot, theirs: Skill, quality: Quality) -> None:
    place, _ = Enrolment.objects.get_or_create(
        campaign=ballot.comparison.campaign, user=ballot.annotator
    )
    if place.paused_at is not None:
        return
    place.paused_at = timezone.now()
    place.pause_reason = (
        f"{theirs.right} of {theirs.n} known comparisons right: an accuracy below "
        f"{quality.pause_accuracy:.0%} with {theirs.below(quality.pause_accuracy):.0%} probability"
    )
    place.save(update_fields=["paused_at", "pause_reason"])
    log.warning("%s is paused in %s: %s", ballot.annotator, place.campaign, place.pause_reason)
