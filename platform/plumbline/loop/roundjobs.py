"""Asking the fleet for a round's jobs: once per purpose, however often a stage is looked at."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import transaction

from align import jobs
from align.algorithm import Draws
from plumbline.collect.models import Prompt
from plumbline.fleet import claims, dispatch
from plumbline.fleet.models import Job
from plumbline.loop import rows
from plumbline.loop.models import Experiment, Round, RoundJob
from plumbline.policies import serving
from plumbline.policies.models import Policy

Inputs = Mapping[str, Callable[[], Iterable[Mapping[str, Any]]]]


def ask(round: Round, purpose: str, spec: jobs.Job, inputs: Inputs) -> Job:
    """The round's job for a purpose, submitted on first call. Input rows are only then computed."""
    asked = round.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is not None:
        return asked.job
    files = {name: make() for name, make in inputs.items()}
    with transaction.atomic():
        title = f"{round}: {purpose.partition(':')[0]}"
        job = dispatch.submit(round.experiment.project, spec, title, files)
        RoundJob.objects.create(round=round, purpose=purpose, job=job)
    return job


def finished(job: Job) -> dict[str, Any] | None:
    """The job's result, None while there is none yet.

    Raises ValueError with the reason, and behind it the job's last words, when it failed or was
    cancelled.
    """
    if job.state == Job.State.FAILED:
        reason = claims.reason(job.error)
        told = f"The {job.kind} job failed: {reason}" if reason else f"The {job.kind} job failed."
        raise ValueError(f"{told}\n{job.error}".strip())
    if job.state == Job.State.CANCELLED:
        raise ValueError(f"The {job.kind} job was cancelled.")
    return job.result if job.state == Job.State.SUCCEEDED else None


def sample(
    round: Round, purpose: str, policy: Policy, prompts: list[Prompt], draws: Draws
) -> Job | None:
    """The finished job that draws answers to each prompt from a policy; None while it runs.

    The policy is (re)loaded at every look, so an engine that restarted in mid-job finds it again.
    """
    asked = round.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is None or not asked.job.over:
        serving.ensure_loaded(policy)
    experiment = round.experiment
    # Two draws from one policy must differ; two policies that are compared need not.
    kind, _, source = purpose.partition(":")
    apart = kind == rows.SAMPLE and source != "policy"
    salt = zlib.crc32(source.encode()) % 1000 if apart else 0
    spec = jobs.SampleJob(
        engine_url=settings.ENGINE_URL,
        model=serving.engine_name(policy),
        n=draws.n,
        temperature=draws.temperature,
        top_p=draws.top_p,
        max_tokens=experiment.max_tokens,
        seed=experiment.seed * 1000 + round.number + 1_000_003 * salt,
    )
    job = ask(round, purpose, spec, {jobs.PROMPTS: lambda: rows.prompt_rows(prompts)})
    return job if finished(job) is not None else None


def optimiser(experiment: Experiment, fields: Mapping[str, Any]) -> jobs.Optimiser:
    """The experiment's settings over the vetted defaults; its seed; what the engine can serve."""
    defaults = {"seed": experiment.seed, "max_length": settings.MAX_MODEL_LEN}
    return jobs.Optimiser(**{**defaults, **fields})


def stem(round: Round) -> str:
    """What policies and reward models of this round are called, before their hash."""
    return f"{round.experiment.project.slug}-e{round.experiment.pk}-r{round.number}"
