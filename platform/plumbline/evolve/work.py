"""Asking the fleet for a session's jobs: once per purpose, however often a stage is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import transaction

from align import jobs
from align.judge_jobs import Asked
from plumbline.evolve.models import Evolution, EvolutionJob, Generation
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.judges.models import Endpoint

Inputs = Mapping[str, Callable[[], Iterable[Mapping[str, Any]]]]


def ask(
    evolution: Evolution,
    generation: Generation | None,
    purpose: str,
    spec: jobs.Job,
    inputs: Inputs,
) -> Job:
    """The session's job for a purpose, submitted on first call; of a generation its number stands
    before the purpose. Input rows are only then computed."""
    name = f"g{generation.number}:{purpose}" if generation else purpose
    asked = evolution.jobs.filter(purpose=name).select_related("job").first()
    if asked is not None:
        return asked.job
    files = {file: make() for file, make in inputs.items()}
    with transaction.atomic():
        title = f"{generation or evolution}: {purpose.partition(':')[0]}"
        job = dispatch.submit(evolution.project, spec, title, files)
        EvolutionJob.objects.create(
            evolution=evolution, generation=generation, purpose=name, job=job
        )
    return job


def keep(evolution: Evolution, generation: Generation | None, purpose: str, job: Job) -> None:
    """Remember a job that somebody else submitted for the session."""
    name = f"g{generation.number}:{purpose}" if generation else purpose
    EvolutionJob.objects.create(evolution=evolution, generation=generation, purpose=name, job=job)


def endpoint(one: Endpoint, concurrency: int = 6) -> Asked:
    """Whom a job asks. An endpoint without an address is our own engine."""
    own = not one.url
    urls = [f"{url.strip().rstrip('/')}/v1" for url in settings.ENGINE_URL.split(",")]
    return Asked(
        url=",".join(urls) if own else one.url,
        model=one.model,
        key_variable=one.key_variable,
        price_in=float(one.price_in),
        price_out=float(one.price_out),
        concurrency=concurrency,
        own=own,
        limit=one.limit,
        own_temperature=one.own_temperature,
    )
