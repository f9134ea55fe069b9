"""Jobs that nobody does: a lease that is long over, work that waits with no worker to take it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from plumbline.fleet import presence
from plumbline.fleet.models import Job
from plumbline.operations.check import Check, Finding

SWEPT = 60.0  # seconds after a lease's end, by when some worker or the loop has swept it
WAITED = timedelta(minutes=2)  # for a worker


class JobsCheck(Check):
    title = "Every job has a worker, or will have one."

    def look(self) -> Iterator[Finding]:
        running = Job.objects.filter(state=Job.State.RUNNING)
        self.seen = Job.objects.filter(state__in=("queued", "running")).count()
        late = running.filter(lease_until__lt=Now() - timedelta(seconds=SWEPT))
        for job in late.order_by("lease_until"):
            yield self.found(
                job.pk,
                f"The lease of {job} ended at {job.lease_until:%H:%M:%S} UTC, and nobody took it "
                f"from {job.worker}; leases last {settings.LEASE_SECONDS} s.",
                "Start `manage.py runloop` and a worker: either takes it back.",
            )
        now = timezone.now()
        taken = {
            name for one in presence.workers() if presence.alive(one, now) for name in one.queues
        }
        due = Q(not_before=None, created_at__lt=now - WAITED) | Q(not_before__lt=now - WAITED)
        waiting = Job.objects.filter(due, state=Job.State.QUEUED).exclude(queue__in=taken)
        for queue in waiting.order_by("queue").values_list("queue", flat=True).distinct():
            count = waiting.filter(queue=queue).count()
            yield self.found(
                f"queue {queue}",
                f"{count} job{'s wait' if count > 1 else ' waits'} in the queue {queue}, and no "
                "worker takes from it.",
                f"Start one: manage.py worker {queue}",
            )
