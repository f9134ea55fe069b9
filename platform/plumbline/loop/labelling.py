"""The stage in which a round's comparisons are answered, and what was said is frozen."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from align import failpoints
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.loop import campaigns, rewarding, rounds, rows, shares, triaging
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
    _freeze(round, ballots)
    return Stage.REWARD


def _freeze(round: Round, ballots: QuerySet[Ballot]) -> None:
    """The list of votes that the round learns from, once and for all. Whoever votes, revises or
    takes back holds the comparison, so each does so wholly before the list or wholly after.

    Raises ValueError where nothing could be learned from it, and keeps no list then.
    """
    with transaction.atomic():
        here = Round.objects.select_for_update(no_key=True).get(pk=round.pk)
        if here.ballots_sha256:  # by a loop that died before it wrote the next stage down
            round.ballots_sha256 = here.ballots_sha256
            return
        if round.campaign is not None:
            asked = round.campaign.comparisons.select_for_update(of=("self",)).order_by("pk")
            list(asked.values_list("pk"))
        triaging.cast(round)
        frozen, left_out = shares.capped(round, triaging.kept(round, ballots))
        rewarding.check_learnable(round.experiment, frozen)
        round.ballots.set(frozen)
        failpoints.reach("freeze.listed")
        round.ballots_sha256 = rows.ballots_digest(frozen)
        if left_out:
            round.figures = {**round.figures, "annotator_share": left_out}
        round.save(update_fields=["ballots_sha256", "figures"])
    failpoints.reach("freeze.committed")
