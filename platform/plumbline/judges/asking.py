"""Asking a judge about pairs: only what it has not said yet, and what it said is stored once.

A job is submitted with the pairs it is for in its own folder, so that whoever finds it finished
can gather it, at any time and as often as they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from align import jobs
from align.judge_jobs import Asked
from plumbline.accounts.models import Project, User
from plumbline.collect.models import Campaign, Completion
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.judges import kind, verdicts
from plumbline.judges.kind import Pair
from plumbline.judges.models import Asking, JudgeVersion
from plumbline.policies import serving
from plumbline.policies.models import Policy

PAIRS_ASKED = "asked.jsonl"  # {"first", "second"}: ids, in the order asked


def ask(
    version: JudgeVersion,
    pairs: Sequence[Pair],
    title: str,
    *,
    max_dollars: float = 0.0,
    max_tokens: int = 0,
    again: bool = False,
    campaign: Campaign | None = None,
    by: User | None = None,
) -> Job | None:
    """The job that asks about the pairs that the version has not been asked about; None where
    every verdict is there. `gather` stores what it says when it has succeeded.

    Caps of 0 are none; what a cap leaves unasked is missing from the job's verdicts, and is asked
    by the next call. again: ask once more about pairs on which there is a verdict without a
    probability. Raises ValueError for a pair of two prompts or of one answer, and where the judge
    cannot work.
    """
    wanted = _missing(version, _checked(pairs), again)
    if not wanted:
        return None
    spec, inputs = kind.of(version).job(version, wanted)
    spec = capped(spec, max_dollars, max_tokens)
    load_own(version.judge.project, spec)
    asked = ({"first": str(one.pk), "second": str(other.pk)} for one, other in wanted)
    with transaction.atomic():
        job = dispatch.submit(version.judge.project, spec, title, {**inputs, PAIRS_ASKED: asked})
        Asking.objects.create(
            version=version, job=job, pairs=len(wanted), campaign=campaign, asked_by=by
        )
    return job


def gather(version: JudgeVersion, job: Job) -> int:
    """Store what a succeeded job said, and how much was new: 0 where it has been gathered.

    Raises ValueError for a job that has not succeeded, and for one that asked another version.
    """
    if job.state != Job.State.SUCCEEDED:
        raise ValueError(f"{job.title} has not succeeded; it has no verdicts to store.")
    with transaction.atomic():
        asking = (
            Asking.objects.select_for_update(of=("self",)).select_related("version").get(job=job)
        )
        if asking.version_id != version.pk:
            raise ValueError(f"{job.title} asked {asking.version}, not {version}.")
        if asking.gathered_at is not None:
            return 0
        said = list(kind.of(version).said(version, job, pairs_of(job)))
        new = verdicts.store(version, said, job)
        asking.gathered_at, asking.cost = timezone.now(), cost(job)
        asking.save(update_fields=["gathered_at", "cost"])
    return new


def pairs_of(job: Job) -> list[Pair]:
    """What a job was asked about; pairs with an answer that is gone by now are left out."""
    rows = list(jobs.read_rows(job.folder / PAIRS_ASKED))
    ids = sorted({UUID(row[side]) for row in rows for side in ("first", "second")})
    found: dict[UUID, Completion] = {}
    for at in range(0, len(ids), verdicts.BATCH):
        some = Completion.objects.select_related("prompt").filter(
            pk__in=ids[at : at + verdicts.BATCH]
        )
        found.update({one.pk: one for one in some})
    named = [(UUID(row["first"]), UUID(row["second"])) for row in rows]
    return [(found[a], found[b]) for a, b in named if a in found and b in found]


def cost(job: Job) -> Decimal:
    """Dollars, as the job counted them; 0 of jobs that ask no endpoint."""
    return Decimal(str(round((job.result or {}).get("dollars", 0.0), 6)))


def capped(spec: jobs.Job, max_dollars: float, max_tokens: int) -> jobs.Job:
    """The job with caps on what it spends, where it asks an endpoint."""
    asked = getattr(spec, "asked", None)
    if not isinstance(asked, Asked):
        return spec
    limits: Any = {"asked": replace(asked, max_dollars=max_dollars, max_tokens=max_tokens)}
    return replace(spec, **limits)


def load_own(project: Project, spec: jobs.Job) -> None:
    """Our own engine must have the policy that is to judge; its base model is always there."""
    asked = getattr(spec, "asked", None)
    if isinstance(asked, Asked) and asked.own:
        policy = Policy.objects.filter(project=project, name=asked.model).first()
        if policy is not None:
            serving.ensure_loaded(policy)


def _checked(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair once, whichever way around it is named."""
    found: dict[tuple[UUID, UUID], Pair] = {}
    for one, other in pairs:
        if one.prompt_id != other.prompt_id:
            raise ValueError("A judge compares answers to the same prompt.")
        if one.pk == other.pk:
            raise ValueError("A judge compares two answers, not one with itself.")
        found.setdefault(verdicts.in_order(one.pk, other.pk), (one, other))
    return list(found.values())


def _missing(version: JudgeVersion, pairs: Sequence[Pair], again: bool) -> list[Pair]:
    known = verdicts.of(version, pairs)
    return [
        pair
        for pair in pairs
        if (ids := (pair[0].pk, pair[1].pk)) not in known or (again and known[ids] is None)
    ]
