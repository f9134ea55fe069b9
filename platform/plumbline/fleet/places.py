"""Where a job stands among those that wait for the same workers."""

from __future__ import annotations

from django.db.models import Q

from plumbline.fleet.models import Job


def place(job: Job) -> int | None:
    """1 for the job that the next free worker takes; None for one that does not wait. Workers take
    jobs of all projects in the order they were asked for (`claims.claim`)."""
    if job.state != Job.State.QUEUED:
        return None
    before = Q(created_at__lt=job.created_at) | Q(created_at=job.created_at, id__lt=job.pk)
    return Job.objects.filter(before, queue=job.queue, state=Job.State.QUEUED).count() + 1


def running(queue: str) -> int:
    """Jobs of the queue that workers are busy with."""
    return Job.objects.filter(queue=queue, state=Job.State.RUNNING).count()
