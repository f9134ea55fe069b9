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
    kept: Kept = cache.get(key) or Kept(width=_power(int(job.progress.get("done", 0)), points))
    if kept.whole:
        return kept.series
    over = job.over  # by now, so that nothing can come after what is read next
    rows = Metric.objects.filter(job=job, pk__gt=kept.seen).exclude(name__in=hidden)
    if _add(kept, rows.order_by()) or over:
        steps = [step for sums in kept.series.values() for step in sums]
        if steps:
            _widen(kept, _power(max(steps) - min(steps) + kept.width, points))
        kept.whole = over
        cache.set(key, kept, SECONDS)
    return kept.series


def _power(steps: int, points: int) -> int:
    """The least power of two of which `points` span so many steps."""
    return 1 << max(0, math.ceil(math.log2(max(1, steps) / points)))


def _widen(kept: Kept, width: int) -> None:
    """Buckets of a power of two lie whole within those of a larger one."""
    if width <= kept.width:
        return
    for name, sums in kept.series.items():
        wider: Sums = {}
        for step, found in sums.items():
            _merge(wider, step - step % width, found)
        kept.series[name] = wider
    kept.width = width


def _add(kept: Kept, rows: QuerySet[Metric]) -> bool:
    """Sum up rows; whether there were any. One look at the table: it is long."""
    found = (
        rows.annotate(bucket=F("step") - F("step") % Value(kept.width))
        .values_list("name", "bucket")
        .annotate(
            total=Sum("value"),
            count=Count("pk"),
            least=Min("value"),
            greatest=Max("value"),
            seen=Max("pk"),
        )
        .order_by("name", "bucket")
    )
    seen = kept.seen
    for name, bucket, total, count, least, greatest, newest in found:
        sums = kept.series.setdefault(name, {})
        _merge(sums, int(bucket), (total, count, least, greatest))
        seen = max(seen, newest)
    grew, kept.seen = seen > kept.seen, seen
    return grew


def _merge(sums: Sums, step: int, more: tuple[float, int, float, float]) -> None:
    if step in sums:
        total, count, least, greatest = sums[step]
        more = (total + more[0], count + more[1], min(least, more[2]), max(greatest, more[3]))
    sums[step] = more
