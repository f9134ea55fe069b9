"""A waiting job's place in the queue, in words."""

from __future__ import annotations

from django import template

from plumbline.fleet import places
from plumbline.fleet.models import Job

register = template.Library()


@register.filter
def queue_place(job: Job | None) -> str:
    """ "next in the queue, behind 1 running job"; "" for a job that does not wait."""
    place = places.place(job) if job is not None else None
    if place is None or job is None:
        return ""
    busy = places.running(job.queue)
    where = "next in the queue" if place == 1 else f"number {place} in the queue"
    return f"{where}, behind {busy} running job{'' if busy == 1 else 's'}" if busy else where
