"""What a person may do to a round: begin it, end its labelling early, cancel it, try again."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.audit.record import record
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.loop import history, rebuilding
from plumbline.loop.models import OVER, Experiment, Round, RoundStage, Stage
from plumbline.loop.resuming import AGAIN
from plumbline.policies.models import Policy


def begin(experiment: Experiment) -> Round:
    """The experiment's next round, starting from the best policy it has.

    Raises ValueError when a round is still in progress; a second call at the same instant is
    refused by the database.
    """
    with transaction.atomic():
        last = experiment.rounds.order_by("-number").first()
        if last is not None and not last.over:
            raise ValueError(f"Round {last.number} of {experiment.name} is still in progress.")
        rebuild = history.rebuild_of(experiment)
        if rebuild is not None:
            fields = rebuilding.following(rebuild, last)
        else:
            number = last.number + 1 if last else 1
            start = experiment.start if experiment.blend else best_policy(experiment)
            fields = {"number": number, "policy_in": start}
        fresh = Round.objects.create(experiment=experiment, **fields)
        RoundStage.objects.create(round=fresh, stage=fresh.stage, started_at=timezone.now())
        told: dict[str, Any] = {"experiment": experiment.pk, "number": fresh.number}
        record("round.begun", fresh, project=experiment.project_id, **told)
    return fresh


def best_policy(experiment: Experiment) -> Policy:
    """The newest policy of the experiment that was promoted, else the one it started from."""
    promoted = (
        experiment.rounds.filter(policy_out__state=Policy.State.PROMOTED)
        .order_by("-number")
        .select_related("policy_out")
        .first()
    )
    if promoted is None or promoted.policy_out is None:
        return experiment.start
    return promoted.policy_out


def working_policies() -> list[Policy]:
    """What rounds in progress may sample from, so that it is not unloaded under them. What else
    they draw from they load when they do, and their jobs wait for it."""
    wanted = set()
    for round in Round.objects.exclude(stage__in=OVER).select_related("experiment"):
        wanted |= {str(round.policy_in_id), str(round.policy_out_id), *round.opponents.values()}
        wanted |= {str(round.experiment.start_id), str(round.experiment.soup_with_id)}
    return list(Policy.objects.filter(pk__in=wanted - {"None"}))


def close_labels(round: Round) -> None:
    """End labelling with the votes there are; the round goes on at its next tick."""
    campaigns = [c for c in (round.campaign, round.evaluation_campaign) if c is not None]
    for campaign in campaigns:
        if campaign.closed_at is None:
            campaign.closed_at = timezone.now()
            campaign.save(update_fields=["closed_at"])


def cancel(round: Round, actor: User) -> None:
    """Stop the round and its jobs; what it collected stays."""
    with transaction.atomic():
        changed = (
            Round.objects.filter(pk=round.pk)
            .exclude(stage__in=OVER)
            .update(
                stage=Stage.CANCELLED,
                error=f"Cancelled by {actor.get_username()}.",
                finished_at=timezone.now(),
            )
        )
        if not changed:
            return
        RoundStage.objects.filter(round=round, finished_at=None).update(finished_at=timezone.now())
        close_labels(round)
        for job in Job.objects.filter(asked_by__round=round):
            if not job.over:
                dispatch.cancel(job)
        record("round.cancelled", round, project=round.experiment.project_id, actor=actor)


def retry(round: Round) -> None:
    """Take a failed round up again at the stage that failed; its failed or cancelled jobs resume
    from their last checkpoints. Raises ValueError when the round did not fail."""
    with transaction.atomic():
        stage = round.stages.order_by("-started_at", "-id").first()
        if round.stage != Stage.FAILED or stage is None:
            raise ValueError("Only a failed round can be tried again.")
        stage.finished_at = None
        stage.save(update_fields=["finished_at"])
        Round.objects.filter(pk=round.pk, stage=Stage.FAILED).update(
            stage=stage.stage, error="", finished_at=None
        )
        again = Job.objects.filter(asked_by__round=round, state__in=AGAIN)
        queues = set(again.values_list("queue", flat=True))
        again.update(
            state=Job.State.QUEUED,
            attempt=0,
            finished_at=None,
            not_before=None,
            cancel_requested=False,
        )
        project = round.experiment.project_id
        record("round.retried", round, project=project, stage=str(stage.stage))
        for queue in queues:
            dispatch.ring(queue)
