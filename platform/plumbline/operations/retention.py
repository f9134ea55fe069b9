"""`manage.py retain`: what may go after a while, and what never does.

Events, metrics and run folders of jobs that are over go, unless something still names them: weights
of a policy or reward model, a round that is not over, the last finished rounds of each experiment,
an answer to a judge's question that is not gathered. No vote, policy, reward model, evaluation or
audit row is ever removed here. Nothing goes unless it is asked for by name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from plumbline.fleet.models import Device, Event, Job, Metric, Worker
from plumbline.gateway.models import ChatAnswer, StoredCompletion
from plumbline.judges.models import Asking, JudgeVersion, Revising
from plumbline.loop.models import OVER, Round, RoundJob, Stage
from plumbline.operations.checks import files
from plumbline.policies.models import Policy, RewardModel

BATCH = 1000
KNOWN = (Asking, Device, Event, Metric, Revising, RoundJob, Worker)  # looked at one by one, or none
STRAY = 24 * 3600.0  # seconds for which a file that no row names is left alone


@dataclass(frozen=True)
class Rule:
    """How old something must be, in days, and how many finished rounds keep their folders."""

    days: int = 90
    rounds: int = 3


@dataclass
class Plan:
    """What would go. `folders`: with their bytes."""

    folders: dict[Path, int] = field(default_factory=dict)
    strays: dict[Path, int] = field(default_factory=dict)
    checkpoints: dict[Path, int] = field(default_factory=dict)  # of jobs that are over
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        parts = (self.folders, self.strays, self.checkpoints)
        return sum(sum(part.values()) for part in parts)


def plan(rule: Rule) -> Plan:
    """Looks only."""
    before = timezone.now() - timedelta(days=rule.days)
    found = Plan()
    kept = named(rule)
    for job in _over(before).iterator():
        if not job.folder.is_dir():
            continue
        if job.pk not in kept:
            found.folders[job.folder] = _size(job.folder)
        elif (states := job.folder / "checkpoints").is_dir():
            found.checkpoints[states] = _size(states)
    found.strays = {path: _size(path) for path in files.strays(STRAY)}
    found.rows = {name: rows.count() for name, rows in _rows(before).items()}
    return found


def carry_out(rule: Rule) -> Plan:
    """Remove what the plan says, files first: a row without its folder is still told by `verify`
    only where somebody needs it. May be killed anywhere and begun again."""
    found = plan(rule)
    for path in (*found.folders, *found.checkpoints, *found.strays):
        _remove(path)
    before = timezone.now() - timedelta(days=rule.days)
    for rows in _rows(before).values():
        while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
            rows.model._default_manager.filter(pk__in=batch).delete()
    return found


def named(rule: Rule) -> set[UUID]:
    """Jobs whose folders are needed, by what names them."""
    found = set(_jobs_of(Policy.objects.exclude(path="").values_list("path", flat=True)))
    found |= set(_jobs_of(RewardModel.objects.values_list("path", flat=True)))
    folders = JudgeVersion.objects.filter(settings__has_key="folder")
    found |= set(_jobs_of(folders.values_list("settings__folder", flat=True)))
    found |= set(Asking.objects.filter(gathered_at=None).values_list("job", flat=True))
    found |= set(Revising.objects.filter(gathered_at=None).values_list("job", flat=True))
    for other in Job._meta.related_objects:
        if other.related_model not in KNOWN:  # sessions, looks inside an answer
            rows = other.related_model._default_manager.exclude(**{other.field.name: None})
            found |= set(rows.values_list(other.field.name, flat=True))
    rounds = set(Round.objects.exclude(stage__in=OVER).values_list("pk", flat=True))
    rounds |= set(_resumable())
    experiments: dict[int, int] = {}
    done = Round.objects.filter(stage=Stage.DONE).order_by("experiment", "-number")
    for pk, experiment in done.values_list("pk", "experiment"):
        experiments[experiment] = experiments.get(experiment, 0) + 1
        if experiments[experiment] <= rule.rounds:
            rounds.add(pk)
    found |= set(Job.objects.filter(asked_by__round__in=rounds).values_list("pk", flat=True))
    return found


def _resumable() -> QuerySet[Round, int]:
    """Failed rounds may be tried again from their jobs' checkpoints."""
    return Round.objects.filter(stage=Stage.FAILED).values_list("pk", flat=True)


def _jobs_of(paths: Iterable[str]) -> Iterator[UUID]:
    """The jobs in whose folders these lie."""
    runs = Path(settings.RUNS_DIR)
    for path in paths:
        if Path(path).is_relative_to(runs) and len(Path(path).relative_to(runs).parts) > 1:
            yield UUID(Path(path).relative_to(runs).parts[0])


def _over(before: datetime) -> QuerySet[Job]:
    states = (Job.State.SUCCEEDED, Job.State.FAILED, Job.State.CANCELLED)
    resumable = Job.objects.filter(asked_by__round__in=_resumable()).values("pk")
    return Job.objects.filter(state__in=states, finished_at__lt=before).exclude(pk__in=resumable)


def _rows(before: datetime) -> dict[str, QuerySet[Any]]:
    """What goes by age alone, or has an end of its own. Curves of what made a policy stay."""
    makers = list(
        {
            *_jobs_of(Policy.objects.exclude(path="").values_list("path", flat=True)),
            *_jobs_of(RewardModel.objects.values_list("path", flat=True)),
        }
    )
    over = _over(before).values("pk")
    return {
        "events": Event.objects.filter(job__in=over).exclude(job__in=makers),
        "metrics": Metric.objects.filter(job__in=over).exclude(job__in=makers),
        "stored texts": StoredCompletion.objects.filter(expires_at__lt=timezone.now()),
        "chat answers": ChatAnswer.objects.filter(created_at__lt=before),
    }


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())


def _remove(path: Path) -> None:
    """Gone at once under its name, then piece by piece; a link is never followed."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.is_dir():
        aside = path.with_name(f".{path.name.lstrip('.')}.gone")
        path.rename(aside)
        shutil.rmtree(aside)
