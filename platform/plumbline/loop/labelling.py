"""The stage in which a round's comparisons are answered, and what was said is frozen."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from plumbline.collect import queue
from plumbline.loop import campaigns, rewarding, rounds, rows, triaging
from plumbline.loop.models import Round, Stage


def label(round: Round) -> Stage | None:
    """Wait for people (or the deadline, or a researcher who has seen enough) and for the judges,
    then freeze."""
    experiment, campaign = round.experiment, round.campaign
    if campaign is None:
        ballots = campaigns.evidence(campaigns.offline(experiment).filter(prompt__rounds=round))
    else:
        if not triaging.go_on(round):
            return None
        ballots = campaigns.evidence(campaign.comparisons.all())
        minutes = experiment.deadline_minutes
        opened = campaign.created_at
        overdue = minutes and timezone.now() > opened + timedelta(minutes=minutes)
        if not (campaign.closed_at or overdue or queue.complete(campaign)):
            return None
        rounds.close_labels(round)
    with transaction.atomic():
        triaging.cast(round)
        frozen = triaging.kept(round, ballots)
        round.ballots.set(frozen)
        round.ballots_sha256 = rows.ballots_digest(frozen)
        round.save(update_fields=["ballots_sha256"])
    rewarding.check_learnable(experiment, frozen)
    return Stage.REWARD
