"""What a researcher may do to a session: begin it, pause it, cancel it, try again, stop waiting for
rankings. Nothing that was said or written is lost by any of it."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.evolve import asking, confirming
from plumbline.evolve.models import OVER, Confirmation, Evolution, Generation, Stage
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.loop.resuming import AGAIN

State = Evolution.State
GOING = (State.ACTIVE, State.PAUSED, State.CONFIRM)


def pause(evolution: Evolution) -> None:
    """Nothing new begins; jobs that run end, and raters may go on."""
    _move(evolution, State.ACTIVE, State.PAUSED, "Only a session that goes on can be paused.")


def resume(evolution: Evolution) -> None:
    _move(evolution, State.PAUSED, State.ACTIVE, "Only a paused session can be resumed.")


def cancel(evolution: Evolution, actor: User) -> None:
    """Stop for good: its jobs end, its campaigns ask nothing more. Raises ValueError where it is
    over."""
    why = f"Cancelled by {actor.get_username()}."
    with transaction.atomic():
        going = Evolution.objects.filter(pk=evolution.pk, state__in=GOING)
        if not going.update(state=State.CANCELLED, ended=why, finished_at=timezone.now()):
            raise ValueError("This session is over.")
        evolution.generations.exclude(stage__in=OVER).update(
            stage=Stage.CANCELLED, error=why, finished_at=timezone.now()
        )
        for one in Confirmation.objects.filter(
            program__generation__evolution=evolution, finished_at=None
        ):
            confirming.end(one, error=why)
        for asked in evolution.jobs.select_related("job"):
            if not asked.job.over:
                dispatch.cancel(asked.job)
        found = Generation.objects.filter(evolution=evolution).select_related("campaign")
        asking.close([evolution.hidden_campaign, *(one.campaign for one in found)])


def retry(evolution: Evolution) -> None:
    """Take a failed session up again at the stage that failed; its failed jobs are queued anew. A
    generation that ran out of calls gets its calls again. Raises ValueError where none failed."""
    with transaction.atomic():
        failed = evolution.generations.filter(stage=Stage.FAILED).order_by("-number").first()
        if evolution.state != State.FAILED or failed is None:
            raise ValueError("Only a failed session can be tried again.")
        Evolution.objects.filter(pk=evolution.pk).update(
            state=State.ACTIVE, ended="", finished_at=None
        )
        Generation.objects.filter(pk=failed.pk).update(
            stage=failed.failed_at,
            failed_at="",
            error="",
            finished_at=None,
            retries=F("retries") + 1,
        )
        again = _jobs(failed).filter(state__in=AGAIN)
        queues = set(again.values_list("queue", flat=True))
        again.update(
            state=Job.State.QUEUED,
            attempt=0,
            finished_at=None,
            not_before=None,
            cancel_requested=False,
        )
        for queue in queues:
            dispatch.ring(queue)


def enough(generation: Generation) -> None:
    """Go on with the rankings there are. Raises ValueError where the generation does not wait."""
    if generation.stage != Stage.RANK or generation.campaign is None:
        raise ValueError("This generation does not wait for rankings.")
    if not generation.campaign.comparisons.filter(ballots__outcome="ranked").exists():
        raise ValueError("Nobody has ranked anything yet; there is nothing to go on with.")
    asking.close([generation.campaign])


def _jobs(generation: Generation) -> QuerySet[Job]:
    evolution = generation.evolution
    asked = evolution.jobs.filter(generation=generation) | evolution.jobs.filter(purpose="pool")
    return Job.objects.filter(evolves__in=asked)


def _move(evolution: Evolution, before: State, after: State, refusal: str) -> None:
    if not Evolution.objects.filter(pk=evolution.pk, state=before).update(state=after):
        raise ValueError(refusal)
