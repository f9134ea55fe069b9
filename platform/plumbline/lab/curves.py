"""Training curves as charts: grouped by what belongs together, never more points than a screen has.

Of at most 500 buckets of steps each gives its mean and its extremes (`buckets`), so a spike inside
a bucket stays visible. No algorithm is known by name here; a metric nobody has heard of gets a
chart of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Max

from plumbline.fleet.models import Job, Metric
from plumbline.lab import buckets

POINTS = 500  # of a series, at most
ROWS = 12  # of the table beside a chart

TITLES = {
    "loss": "Loss",
    "rewards": "Implicit rewards",
    "rewards/accuracies": "Pairs ordered as labelled",
    "accuracy": "Accuracy",
    "log_loss": "Log loss",
    "margin": "Log-odds of the better answer",
    "disagreement": "Ensemble disagreement",
    "h": "Log-ratio of the pair, h",
    "objective/kl": "KL to the training's start",
    "entropy": "Entropy of the next token",
    "logps": "Log-probabilities",
    "drift": "Log-probabilities since the round's start",
    "tokens": "Answer length in tokens",
    "chosen_longer": "Pairs whose chosen answer is longer",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}
ORDER = list(TITLES)
JOBS = {"train": "Training", "reward": "Reward model", "validator": "Validation model"}
SHARES = {"rewards/accuracies", "accuracy", "chosen_longer"}  # between 0 and 1
HIDDEN = {"epoch"}

Buckets = dict[int, tuple[float | None, ...]]  # first step -> mean, least, greatest


@dataclass(frozen=True)
class Series:
    """One named figure over the chart's steps; None where it was not logged."""

    name: str
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]


@dataclass(frozen=True)
class Chart:
    key: str
    title: str
    job: str  # what the job was for
    steps: list[int]  # first step of each bucket
    series: list[Series]
    share: bool  # an axis from 0 to 1

    @property
    def summary(self) -> str:
        """What the picture shows, in a sentence for those who do not see it."""
        parts = []
        for one in self.series:
            known = [
                (step, value)
                for step, value in zip(self.steps, one.mean, strict=True)
                if value is not None
            ]
            if known:
                (first, start), (last, end) = known[0], known[-1]
                parts.append(f"{one.name} {start:.3g} at step {first}, {end:.3g} at step {last}")
        return f"{self.title}: {'; '.join(parts)}."

    @property
    def rows(self) -> list[tuple[int, list[float | None]]]:
        """A dozen evenly spaced steps, the last one among them, with each series' value."""
        count = len(self.steps)
        picked = sorted({round(i * (count - 1) / max(1, ROWS - 1)) for i in range(ROWS)})
        return [(self.steps[i], [one.mean[i] for one in self.series]) for i in picked if count]

    def json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "title": self.title,
            "job": self.job,
            "share": self.share,
            "summary": self.summary,
            "steps": self.steps,
            "series": [
                {"name": one.name, "mean": one.mean, "low": one.low, "high": one.high}
                for one in self.series
            ],
            "rows": self.rows,
        }


def charts(jobs: Iterable[tuple[str, Job]]) -> list[Chart]:
    """The charts of jobs, given as (what it was for, job); jobs without metrics give none."""
    return [chart for purpose, job in jobs for chart in _of_job(purpose, job)]


def version(jobs: Iterable[Job]) -> str:
    """Changes whenever a curve of these jobs has changed."""
    newest = Metric.objects.filter(job__in=jobs).order_by().aggregate(last=Max("pk"))["last"]
    return str(newest or 0)


def family(name: str) -> str:
    """The chart a metric belongs to."""
    if name in TITLES:
        return name
    head, _, tail = name.partition("/")
    return tail if head in ("heldout", "train") and tail else head


def rows(job: Job, key: str) -> tuple[list[str], Iterator[list[Any]]]:
    """Every logged step of a chart's family: the heading, and a row [step, value, ...] a step,
    read from the database as they are asked for. Raises ValueError when nothing was logged."""
    logged = Metric.objects.filter(job=job).exclude(name__in=HIDDEN).order_by()
    names = logged.values_list("name", flat=True).distinct()
    series = sorted((name for name in names if family(name) == key), key=_place)
    if not series:
        raise ValueError(f"{job.title} logged nothing called {key!r}.")
    return ["step", *series], _steps(job, series)


def _steps(job: Job, series: list[str]) -> Iterator[list[Any]]:
    column = {name: place for place, name in enumerate(series, 1)}
    found = Metric.objects.filter(job=job, name__in=series).order_by("step")
    row: list[Any] = []
    for step, name, value in found.values_list("step", "name", "value").iterator():
        if not row or row[0] != step:
            if row:
                yield row
            row = [step, *([""] * len(series))]
        row[column[name]] = value
    yield row


def _place(name: str) -> tuple[bool, str]:
    """A plain name before those with a part."""
    return "/" in name, name


def _of_job(purpose: str, job: Job) -> list[Chart]:
    groups: dict[str, dict[str, Buckets]] = {}
    for name, sums in buckets.of(job, POINTS, HIDDEN).items():
        groups.setdefault(family(name), {})[name] = {
            step: (_finite(total / count), _finite(least), _finite(greatest))
            for step, (total, count, least, greatest) in sums.items()
        }
    order = sorted(groups, key=lambda key: (ORDER.index(key) if key in ORDER else 99, key))
    return [_chart(purpose, key, groups[key]) for key in order]


def _chart(purpose: str, key: str, series: dict[str, Buckets]) -> Chart:
    steps = sorted({step for points in series.values() for step in points})
    missing: tuple[float | None, ...] = (None, None, None)
    lines = []
    for name, points in sorted(series.items(), key=lambda one: _place(one[0])):
        columns = zip(*(points.get(step, missing) for step in steps), strict=True)
        mean, low, high = (list(column) for column in columns)
        lines.append(Series(name, mean, low, high))
    title = TITLES.get(key, key.replace("_", " ").capitalize())
    job = JOBS.get(purpose, purpose.replace("_", " ").capitalize())
    return Chart(f"{purpose}:{key}", title, job, steps, lines, key in SHARES)


def _finite(value: float | None) -> float | None:
    """JSON has no infinity and no NaN; a gap in the line says that the figure was none."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")
