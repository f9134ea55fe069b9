"""`manage.py retain`: what may go after a while, and what never does.

Events, metrics and run folders of jobs that are over go, unless something still names them: weights
of a policy or reward model, a round that is not over, the last finished rounds of each experiment,
an answer to a judge's question that is not gathered. Of folders that stay, logs may go; so may
what is kept to be quick (scores, replies of rubrics' judges) and rows of served requests: AGES says
when, 0 is never. No vote, policy, reward model, evaluation or audit row is ever removed here, and
nothing that a round is rebuilt from. Nothing goes unless it is asked for by name.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from align.jobs import EVENTS, STDERR
from plumbline.fleet.models import Device, Event, Job, Metric, Worker
from plumbline.gateway.models import ChatAnswer, Exchange, StoredCompletion
from plumbline.judges.models import Asking, JudgeVersion, Revising
from plumbline.loop.models import OVER, Round, RoundJob, Stage
from plumbline.operations.checks import files
from plumbline.policies.models import Policy, RewardModel

BATCH = 1000
KNOWN = (Asking, Device, Event, Metric, Revising, RoundJob, Worker)  # looked at one by one, or none
DAY = 24 * 3600.0
STRAY = DAY  # seconds for which a file that no row names is left alone


# By kind, after how many days it goes; 0: it stays. The setting RETAIN says otherwise.
AGES = {
    "runs": 90,  # folders, events and metrics of jobs that are over, which nothing names
    "chats": 90,  # answers of the chat page
    "logs": 0,  # stderr.log and events.jsonl in folders that stay
    "scores": 0,  # of answers by reward models, since the last one came
    "rubrics": 0,  # replies of rubrics' judges, since the last one came
    "exchanges": 0,  # rows of served requests; the days' counts stay
}


@dataclass(frozen=True)
class Rule:
    """How old something must be, in days by kind, and how many finished rounds keep their
    folders."""

    ages: Mapping[str, int] = field(default_factory=lambda: dict(AGES))
    rounds: int = 3

    def before(self, kind: str) -> datetime | None:
        """What is from before this goes; None where the kind stays."""
        days = self.ages[kind]
        return timezone.now() - timedelta(days=days) if days else None


def ages(said: str) -> dict[str, int]:
    """AGES with what the setting says: "logs=30,scores=365". Raises ValueError with a sentence."""
    found = dict(AGES)
    for part in filter(None, (one.strip() for one in said.split(","))):
        kind, _, days = part.partition("=")
        if kind.strip() not in AGES:
            raise ValueError(f"RETAIN knows no {kind.strip()!r}; it knows {', '.join(AGES)}.")
        if not (days.strip().isdecimal() and days.strip().isascii() and int(days) < 100_000):
            raise ValueError(f"RETAIN says {part!r}; after = comes a number of days, 0 for never.")
        found[kind.strip()] = int(days)
    return found


@dataclass
class Plan:
    """What would go. `folders`: with their bytes."""

    folders: dict[Path, int] = field(default_factory=dict)
    strays: dict[Path, int] = field(default_factory=dict)
    checkpoints: dict[Path, int] = field(default_factory=dict)  # of jobs that are over
    logs: dict[Path, int] = field(default_factory=dict)  # of jobs that are over
    caches: dict[Path, int] = field(default_factory=dict)  # scores and replies
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(sum(part.values()) for part in self.files)

    @property
    def files(self) -> tuple[dict[Path, int], ...]:
        return self.folders, self.checkpoints, self.logs, self.caches, self.strays


def plan(rule: Rule) -> Plan:
    """Looks only."""
    found = Plan()
    kept = named(rule)
    runs, logs = rule.before("runs"), rule.before("logs")
    for job in _over(runs).iterator():
        if not job.folder.is_dir():
            continue
        if job.pk not in kept:
            found.folders[job.folder] = _size(job.folder)
        elif (states := job.folder / "checkpoints").is_dir():
            found.checkpoints[states] = _size(states)
    for job in _over(logs).iterator():
        for path in (job.folder / STDERR, job.folder / EVENTS):
            if job.folder not in found.folders and path.is_file():
                found.logs[path] = _size(path)
    found.strays = {path: _size(path) for path in files.strays(STRAY)}
    found.caches = {path: _size(path) for path in _caches(rule) if path not in found.strays}
    found.rows = {name: rows.count() for name, rows in _rows(rule).items()}
    return found


def carry_out(rule: Rule) -> Plan:
    """Remove what the plan says, files first: a row without its folder is still told by `verify`
    only where somebody needs it. May be killed anywhere and begun again."""
    found = plan(rule)
    for path in (path for part in found.files for path in part):
        _remove(path)
    for rows in _rows(rule).values():
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


def _caches(rule: Rule) -> Iterator[Path]:
    """Files that only spare work, unchanged for as long as the rule says. Whoever needs one of them
    again makes it anew; a job that has one open goes on with it."""
    for kind, folder in (("scores", settings.SCORES_DIR), ("rubrics", settings.RUBRICS_DIR)):
        if not (days := rule.ages[kind]):
            continue
        for path in sorted(Path(folder).rglob("*")) if Path(folder).is_dir() else ():
            if path.is_file() and path.lstat().st_mtime < time.time() - days * DAY:
                yield path


def _over(before: datetime | None) -> QuerySet[Job]:
    """Ended by then; none where nothing is old enough."""
    if before is None:
        return Job.objects.none()
    states = (Job.State.SUCCEEDED, Job.State.FAILED, Job.State.CANCELLED)
    resumable = Job.objects.filter(asked_by__round__in=_resumable()).values("pk")
    return Job.objects.filter(state__in=states, finished_at__lt=before).exclude(pk__in=resumable)


def _rows(rule: Rule) -> dict[str, QuerySet[Any]]:
    """What goes by age alone, or has an end of its own. Curves of what made a policy stay."""
    makers = list(
        {
            *_jobs_of(Policy.objects.exclude(path="").values_list("path", flat=True)),
            *_jobs_of(RewardModel.objects.values_list("path", flat=True)),
        }
    )
    over = _over(rule.before("runs")).values("pk")
    chats, exchanges = rule.before("chats"), rule.before("exchanges")
    return {
        "events": Event.objects.filter(job__in=over).exclude(job__in=makers),
        "metrics": Metric.objects.filter(job__in=over).exclude(job__in=makers),
        "stored texts": StoredCompletion.objects.filter(expires_at__lt=timezone.now()),
        "chat answers": _from_before(ChatAnswer.objects.all(), chats),
        "served requests": _from_before(Exchange.objects.all(), exchanges),
    }


def _from_before(rows: QuerySet[Any], before: datetime | None) -> QuerySet[Any]:
    return rows.none() if before is None else rows.filter(created_at__lt=before)


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
