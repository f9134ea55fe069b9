"""What a round builds on: the earlier rounds of its experiment, and which of their votes count.

A rebuilt experiment has rounds of its own only where votes were retracted; before and between
them, the rounds of the experiment that it rebuilds stand in their place.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Max, Min, Q, QuerySet, Value

from plumbline.collect.models import Ballot
from plumbline.loop import retractions
from plumbline.loop.models import Experiment, Rebuild, Round


def rebuild_of(experiment: Experiment) -> Rebuild | None:
    """What an experiment rebuilds; None of an ordinary one."""
    return Rebuild.objects.filter(experiment=experiment).select_related("of").first()


def of(round: Round) -> list[Round]:
    """The rounds up to this one, the oldest first and itself last."""
    experiment = round.experiment
    found = {one.number: one for one in experiment.rounds.filter(number__lte=round.number)}
    rebuild = rebuild_of(experiment)
    if rebuild is not None:
        for one in rebuild.of.rounds.filter(number__lt=round.number):
            found.setdefault(one.number, one)
    return [found[number] for number in sorted(found)]


def before(round: Round) -> list[Round]:
    """The rounds that came earlier, the oldest first."""
    return of(round)[:-1]


def ballots(round: Round) -> QuerySet[Ballot]:
    """Every vote that these rounds froze, but for what is retracted: by the retractions that a
    rebuild goes by, and else by those that stand."""
    frozen = Ballot.objects.filter(rounds__in=[one.pk for one in of(round)]).distinct()
    rebuild = rebuild_of(round.experiment)
    if rebuild is not None:
        return retractions.without(frozen, rebuild.retractions.all())
    return retractions.without(frozen, retractions.standing(round.experiment.project_id))


def aged_ballots(round: Round) -> Iterator[Ballot]:
    """The same in a fixed order, each with its `age` in rounds."""
    here = Q(rounds__in=[one.pk for one in of(round)])
    frozen = ballots(round)
    newest = frozen.aggregate(newest=Max("rounds__number", filter=here))["newest"]
    aged = frozen.annotate(age=Value(newest or 0) - Min("rounds__number", filter=here))
    return aged.order_by("comparison_id", "annotator_id", "revision").iterator()
