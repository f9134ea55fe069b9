"""Reading answers by token when somebody looks at them: a job of the fleet, its results kept.

The implicit reward of a token is beta (log pi - log ref): how far the policy was trained to like it
more than the reference does. Asked once for an answer and a reference; both are immutable.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from align import jobs
from plumbline.accounts.models import Project, User
from plumbline.collect.models import Completion
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.judges.models import Score
from plumbline.loop import rows
from plumbline.loop.models import Inspection, TokenRewards
from plumbline.policies.models import Policy, RewardModel

MOST = 80  # answers of one job
REFERENCE = "reference"


def ask(
    project: Project,
    answers: Sequence[Completion],
    reference: Policy,
    model: RewardModel | None,
    user: User | None,
) -> Inspection | None:
    """A job that reads what is not known yet of these answers, and scores it by `model`; None
    where all is known. Raises ValueError for answers that cannot be read."""
    if any(answer.policy is None for answer in answers):
        raise ValueError("Only a policy's answers can be read by token: imported text has none.")
    missing = unknown(answers, reference, model)
    if not missing:
        return None
    if len(missing) > MOST:
        raise ValueError(f"{len(missing)} answers are too many for one look; {MOST} at most.")
    policies = {str(a.policy_id): a.policy.ref for a in missing if a.policy is not None}
    spec = jobs.ScoreJob(
        policies={**policies, REFERENCE: reference.ref},
        reward_model=model.path if model else None,
        cache=str(settings.SCORES_DIR),
        by_token=True,
        pieces=True,
        max_length=settings.MAX_MODEL_LEN,
    )
    with transaction.atomic():
        inputs = {jobs.ITEMS: rows.item_rows(missing)}
        job = dispatch.submit(project, spec, f"{len(missing)} answers by token", inputs)
        return Inspection.objects.create(
            project=project,
            job=job,
            reference=reference,
            reward_model=model,
            answers=len(missing),
            asked_by=user,
        )


def unknown(
    answers: Sequence[Completion], reference: Policy, model: RewardModel | None
) -> list[Completion]:
    """Those that were not read against the reference, or that the model has not scored."""
    ids = [answer.pk for answer in answers]
    read = TokenRewards.objects.filter(reference=reference, completion__in=ids)
    known = set(read.values_list("completion", flat=True))
    if model is not None:
        scored = Score.objects.filter(reward_model=model, completion__in=ids)
        known &= set(scored.values_list("completion", flat=True))
    return [answer for answer in answers if answer.pk not in known]


def under_way(project: Project) -> list[Inspection]:
    """Those whose results are not here yet."""
    found = Inspection.objects.filter(project=project, taken_at=None)
    return list(found.select_related("job").order_by("pk"))


def collect() -> int:
    """Take in what finished jobs found; how many. Doing it twice changes nothing."""
    taken = 0
    waiting = Inspection.objects.filter(taken_at=None).exclude(
        job__state__in=(Job.State.QUEUED, Job.State.RUNNING)
    )
    for one in waiting.select_related("job", "reference", "reward_model"):
        if one.job.state == Job.State.SUCCEEDED:
            error = _take(one)
        else:
            error = f"The job {one.job.get_state_display().lower()}. {one.job.error}".strip()
        taken += Inspection.objects.filter(pk=one.pk, taken_at=None).update(
            taken_at=timezone.now(), error=error
        )
    return taken


def _take(one: Inspection) -> str:
    """Store the results; what is wrong with them, or ""."""
    try:
        found = {UUID(key): row for key, row in rows.read_scores(one.job).items()}
        writers = dict(Completion.objects.filter(pk__in=found).values_list("pk", "policy"))
        read = []
        for pk, writer in writers.items():
            row = found[pk]
            if row["token_logps"]:  # an answer that does not fit the model is not read
                read.append(
                    TokenRewards(
                        completion_id=pk,
                        reference=one.reference,
                        pieces=row["pieces"],
                        logps=row["token_logps"][str(writer)],
                        reference_logps=row["token_logps"][REFERENCE],
                    )
                )
    except (OSError, ValueError, KeyError) as error:
        return f"What the job found cannot be read: {error}"
    with transaction.atomic():
        TokenRewards.objects.bulk_create(read, batch_size=rows.BATCH, ignore_conflicts=True)
        if one.reward_model is not None:
            rows.import_scores(one.job, one.reward_model)
    return "" if read else "None of these answers fits the model's context."
