"""What an experiment, or one of its rounds, has used so far: votes, hours of GPUs, money."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import QuerySet
from django.utils import timezone

from plumbline.collect import throughput, votes
from plumbline.collect.models import Ballot, Campaign
from plumbline.fleet.devices import GPU_QUEUE
from plumbline.fleet.models import Job
from plumbline.loop.estimate import gpu_price
from plumbline.loop.models import Experiment, Round

HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """`money` is None where nothing that was used has a price."""

    votes: int
    gpu_hours: float
    money: Decimal | None


def of(experiment: Experiment) -> Spent:
    """Of all rounds so far."""
    return _spent(
        Campaign.objects.filter(round__experiment=experiment)
        | Campaign.objects.filter(evaluated_round__experiment=experiment),
        Job.objects.filter(asked_by__round__experiment=experiment),
    )


def of_round(round: Round) -> Spent:
    return _spent(
        Campaign.objects.filter(round=round) | Campaign.objects.filter(evaluated_round=round),
        Job.objects.filter(asked_by__round=round),
    )


def priced(experiment: Experiment) -> bool:
    """Whether money can be counted: somebody said what an hour of people or of a GPU costs."""
    campaigns = Campaign.objects.filter(round__experiment=experiment)
    paid = campaigns.exclude(hourly_rate=None).exists()
    asked_as = experiment.asked_as
    return gpu_price() is not None or paid or bool(asked_as and asked_as.hourly_rate is not None)


def _spent(campaigns: QuerySet[Campaign], jobs: QuerySet[Job]) -> Spent:
    found = list(campaigns)
    cast = Ballot.objects.filter(comparison__campaign__in=found, outcome__in=votes.VOTES).count()
    hours = gpu_hours(jobs)
    return Spent(cast, hours, _money(found, hours))


def gpu_hours(jobs: QuerySet[Job]) -> float:
    """Of jobs that train or score, from their first claim on, times the processes they ask for."""
    rows = jobs.filter(queue=GPU_QUEUE).values_list("started_at", "finished_at", "spec")
    now, hours = timezone.now(), 0.0
    for begun, ended, spec in rows:
        if begun is not None:
            processes = max(1, int(spec.get("processes") or 1))
            hours += ((ended or now) - begun).total_seconds() / HOUR * processes
    return hours


def _money(campaigns: Iterable[Campaign], hours: float) -> Decimal | None:
    known = [
        cost
        for one in campaigns
        if one.hourly_rate is not None and (cost := throughput.of(one).cost) is not None
    ]
    price = gpu_price()
    if price is not None:
        known.append(price * Decimal(hours))
    return sum(known, Decimal(0)) if known else None
