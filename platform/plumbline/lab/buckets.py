"""A job's logged figures in buckets of steps, each with its mean and its extremes.

The database sums them up, and what it summed is kept: a row of a metric never changes, so a later
look reads only what has been logged since, and none of a job that is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from django.core.cache import cache
from django.db.models import Count, F, Max, Min, QuerySet, Sum, Value

from plumbline.fleet.models import Job, Metric

SECONDS = 3600  # that sums are kept, after somebody looked

Sums = dict[int, tuple[float, int, float, float]]  # first step -> sum, count, least, greatest


@dataclass
class Kept:
    """What is summed up of a job so far, `width` steps a bucket, over rows up to `seen`."""

    width: int = 1
    seen: int = 0
    whole: bool = False  # the job was over by then
    series: dict[str, Sums] = field(default_factory=dict)


def of(job: Job, points: int, hidden: set[str]) -> dict[str, Sums]:
    """Sums by name, in at most `points` buckets of a power of two of steps each."""
    key = f"curves:{job.pk}:{points}"
    kept: Kept = cache.get(key) or Kept()
    if kept.whole:
        return kept.series
    over = job.over  # by now, so that nothing can come after what is read next
    rows = Metric.objects.filter(job=job, pk__gt=kept.seen).order_by()
    told = rows.aggregate(seen=Max("pk"), first=Min("step"), last=Max("step"))
    if told["seen"] is not None:
        _widen(kept, _width(kept, told["first"], told["last"], points))
        _add(kept, rows.filter(pk__lte=told["seen"]).exclude(name__in=hidden))
        kept.seen = told["seen"]
    if told["seen"] is not None or over:
        kept.whole = over
        cache.set(key, kept, SECONDS)
    return kept.series


def _width(kept: Kept, first: int, last: int, points: int) -> int:
    """Steps of a bucket when `first` to `last` are added to what is kept."""
    steps = [step for sums in kept.series.values() for step in sums]
    reach = max([last, *steps]) - min([first, *steps]) + 1
    return max(kept.width, 1 << max(0, math.ceil(math.log2(reach / points))))


def _widen(kept: Kept, width: int) -> None:
    """Buckets of a power of two lie whole within those of a larger one."""
    if width == kept.width:
        return
    for name, sums in kept.series.items():
        wider: Sums = {}
        for step, found in sums.items():
            _merge(wider, step - step % width, found)
        kept.series[name] = wider
    kept.width = width


def _add(kept: Kept, rows: QuerySet[Metric]) -> None:
    found = (
        rows.annotate(bucket=F("step") - F("step") % Value(kept.width))
        .values_list("name", "bucket")
        .annotate(total=Sum("value"), count=Count("pk"), least=Min("value"), greatest=Max("value"))
        .order_by("name", "bucket")
    )
    for name, bucket, total, count, least, greatest in found:
        sums = kept.series.setdefault(name, {})
        _merge(sums, int(bucket), (total, count, least, greatest))


def _merge(sums: Sums, step: int, more: tuple[float, int, float, float]) -> None:
    if step in sums:
        total, count, least, greatest = sums[step]
        more = (total + more[0], count + more[1], min(least, more[2]), max(greatest, more[3]))
    sums[step] = more
