"""Averages of policies that clients asked for: wished for by the gateway, made by the fleet.

`wanted` says what there is and has the rest made; `advance`, at every tick of the loop, takes each
a step further: job, policy, loaded and probed, ready. So many are held at once; the ones that
nobody has asked for longest are put away, which costs no more than loading when they come back.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from align import jobs
from plumbline.accounts.models import Project
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.policies import engines, serving
from plumbline.policies.models import Mixture, Policy

log = logging.getLogger(__name__)

TWENTIETHS = 20  # weights come in steps of 0.05
MOST_READY = 8  # of a project
MOST_MAKING = 2
AGAIN = timedelta(minutes=5)  # after a failure, until it is tried again
STALE = timedelta(seconds=60)  # how exactly `used_at` is kept
State = Mixture.State


class Refused(Exception):
    """This mixture is not to be had: `for_good`, or not at the moment."""

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


class Waiting(Exception):
    """Nothing is wrong with a mixture; the engine cannot take it now."""


def recipe(parts: Mapping[UUID, int]) -> str:
    """The name of an average: the same parts have the same one."""
    said = json.dumps(sorted((str(pk), share) for pk, share in parts.items()))
    return hashlib.sha256(said.encode()).hexdigest()


def wanted(project: int, parts: Mapping[UUID, int]) -> Policy | None:
    """The average of policies in twentieths, None while it is being made.

    Raises Refused where it cannot be made at all, has just failed, or others are being made.
    """
    assert sum(parts.values()) == TWENTIETHS
    assert all(parts.values())
    found = Mixture.objects.filter(project=project, recipe=recipe(parts)).select_related("policy")
    mixture = found.first()
    now = timezone.now()
    if mixture is not None and mixture.state == State.READY:
        if now - mixture.used_at > STALE:
            found.update(used_at=now)
        return mixture.policy
    if mixture is not None and mixture.state == State.MAKING:
        return None
    if mixture is not None and mixture.state == State.FAILED and now - mixture.used_at < AGAIN:
        raise Refused(f"It could not be made: {mixture.error}", for_good=False)
    _begin(project, parts)
    return None


@transaction.atomic
def _begin(project: int, parts: Mapping[UUID, int]) -> None:
    """Have it made, or brought back. Once, however many ask at once."""
    owner = Project.objects.select_for_update(no_key=True).get(pk=project)
    mixture = Mixture.objects.filter(project=owner, recipe=recipe(parts)).first()
    if mixture is not None and mixture.state in (State.MAKING, State.READY):
        return
    if Mixture.objects.filter(project=owner, state=State.MAKING).count() >= MOST_MAKING:
        raise Refused("Other mixtures are being made; ask again later.", for_good=False)
    mixture = mixture or Mixture(
        project=owner,
        recipe=recipe(parts),
        parts={str(pk): share for pk, share in sorted(parts.items(), key=str)},
    )
    if mixture.policy is None:
        mixture.job = _average(owner, parts).pk
    mixture.state, mixture.error, mixture.used_at = State.MAKING, "", timezone.now()
    mixture.save()


def _average(project: Project, parts: Mapping[UUID, int]) -> Job:
    policies = {one.pk: one for one in Policy.objects.filter(project=project, pk__in=parts)}
    if full := [one.name for one in policies.values() if one.weights == Policy.Weights.FULL]:
        raise Refused(f"{full[0]} has full weights, which are not averaged here.", for_good=True)
    if len({one.base_model for one in policies.values()}) > 1:
        raise Refused("These objectives' policies are on different base models.", for_good=True)
    spec = jobs.MergeJob(
        policies={one.name: one.ref for one in policies.values()},
        shares={policies[pk].name: share / TWENTIETHS for pk, share in parts.items()},
    )
    return dispatch.submit(project, spec, f"Mixture of {' and '.join(sorted(spec.shares))}")


def advance() -> None:
    """Take every mixture that is being made as far as it goes now."""
    for mixture in Mixture.objects.filter(state=State.MAKING).select_related("policy", "project"):
        try:
            _step(mixture)
        except Waiting as error:
            log.info("%s waits: %s", mixture, error)
        except (serving.EngineError, ValueError) as error:
            log.warning("%s could not be made: %s", mixture, error)
            failed = Mixture.objects.filter(pk=mixture.pk, state=State.MAKING)
            failed.update(state=State.FAILED, error=str(error)[:500], used_at=timezone.now())


def _step(mixture: Mixture) -> None:
    if mixture.policy is None:
        mixture.policy = _made(mixture)
        if mixture.policy is None:
            return
        mixture.save(update_fields=["policy"])
    try:
        serving.served()
    except serving.EngineError as error:
        raise Waiting(f"the engine is away: {error}") from error
    try:
        serving.ensure_loaded(mixture.policy)
        serving.probe(mixture.policy)
    except (serving.EngineLent, engines.EngineSlow) as error:
        raise Waiting(str(error)) from error
    mixture.state = State.READY
    mixture.save(update_fields=["state"])
    _put_away(mixture)


def _made(mixture: Mixture) -> Policy | None:
    """The policy that its job has left; None while the job runs."""
    job = Job.objects.filter(pk=mixture.job).first() if mixture.job is not None else None
    if job is None or job.state in (Job.State.FAILED, Job.State.CANCELLED):
        words = (job.error.strip() or job.get_state_display()) if job is not None else "it is gone"
        raise ValueError(f"the job that averages ended: {words[-300:]}")
    if job.state != Job.State.SUCCEEDED:
        return None
    assert job.result is not None
    shares = {UUID(pk): share / TWENTIETHS for pk, share in mixture.parts.items()}
    policies = Policy.objects.in_bulk(list(shares))
    heaviest = policies[max(sorted(shares, key=str), key=lambda pk: shares[pk])]
    named = {policies[pk].name: share for pk, share in shares.items()}
    policy, _ = Policy.objects.get_or_create(
        name=f"{mixture.project.slug}-mix-{job.result['sha256'][:12]}",
        defaults={
            "project": mixture.project,
            "weights": Policy.Weights.LORA,
            "base_model": heaviest.base_model,
            "path": str(job.folder / job.result["weights"]),
            "sha256": job.result["sha256"],
            "parent": heaviest,
            "knobs": {"mixture": named},
            "metrics": job.result,
            "state": Policy.State.MIXTURE,
        },
    )
    return policy


def _put_away(newest: Mixture) -> None:
    """Keep so many of a project; those that were not asked for longest leave the engine."""
    ready = Mixture.objects.filter(project=newest.project_id, state=State.READY)
    for mixture in ready.exclude(pk=newest.pk).order_by("-used_at")[MOST_READY - 1 :]:
        ready.filter(pk=mixture.pk).update(state=State.AWAY)
        assert mixture.policy is not None
        try:
            serving.release(mixture.policy)
        except ValueError:  # an alias needs it
            continue
        except serving.EngineError as error:
            log.warning("the engine may still hold %s: %s", mixture.policy.name, error)
