"""What a child process says in events.jsonl, copied to rows: metrics, log lines and progress.

Rows and the position in the file move in one transaction that also renews the lease, so each line
is copied exactly once whatever dies, and a worker that lost its lease copies nothing.
"""

from __future__ import annotations

import json
import math
from typing import Any

from django.db import transaction

from align import jobs
from plumbline.fleet import claims
from plumbline.fleet.models import Event, Job, Metric

LARGEST_BITE = 1 << 20  # bytes of events copied at one heartbeat


class Reports:
    """One attempt's view of its job's events."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._path = job.folder / jobs.EVENTS
        # This attempt's first and latest progress: the clock of the child starts anew with each.
        self._first: dict[str, Any] | None = None
        self._latest = 0.0
        self.progress: dict[str, Any] = dict(job.progress)
        for name in ("rate", "left", "tokens_per_second"):
            self.progress.pop(name, None)

    def copy(self) -> bool:
        """Heartbeat, and copy what is new. False: the lease is lost or a cancel is asked for."""
        events, end = self._new_events()
        metrics, logs = [], []
        for event in events:
            if event["type"] == "metric":
                metrics += self._metrics(event)
            elif event["type"] == "log":
                message = str(event["message"])[:500]
                logs.append(Event(job=self._job, epoch=self._job.epoch, message=message))
            elif event["type"] == "progress":
                self._advance(event)
        with transaction.atomic():
            alive = claims.heartbeat(self._job, self.progress)
            if not claims.move_events(self._job, end):
                return False
            # A resumed attempt logs the steps since its checkpoint again: the first value stays.
            Metric.objects.bulk_create(metrics, ignore_conflicts=True)
            Event.objects.bulk_create(logs)
        self._job.events_read = end
        return alive

    @property
    def behind(self) -> bool:
        """Whether the file holds complete lines that are not copied yet."""
        return bool(self._new_events()[0])

    def _new_events(self) -> tuple[list[dict[str, Any]], int]:
        """Complete lines after the ones already copied, and where they end."""
        start = self._job.events_read
        if not self._path.is_file():
            return [], start
        with self._path.open("rb") as lines:
            lines.seek(start)
            bite = lines.read(LARGEST_BITE)
        whole = bite[: bite.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # a line cut short by the death of an earlier attempt
                continue
            if isinstance(event, dict) and "type" in event:
                events.append(event)
        return events, start + len(whole)

    def _metrics(self, event: dict[str, Any]) -> list[Metric]:
        return [
            Metric(job=self._job, step=event["step"], name=name[:60], value=value)
            for name, value in event["values"].items()
            if math.isfinite(value)  # neither database column nor chart holds a NaN
        ]

    def _advance(self, event: dict[str, Any]) -> None:
        first = self._first
        if first is None or event["elapsed"] < self._latest:
            first = self._first = event
        self._latest = event["elapsed"]
        self.progress = {key: event[key] for key in ("done", "total", "unit")}
        seconds = event["elapsed"] - first["elapsed"]
        if seconds > 0 and event["done"] > first["done"]:
            rate = (event["done"] - first["done"]) / seconds
            self.progress["rate"] = round(rate, 3)
            self.progress["left"] = round((event["total"] - event["done"]) / rate, 1)
            if "tokens" in event and "tokens" in first:
                pace = (event["tokens"] - first["tokens"]) / seconds
                self.progress["tokens_per_second"] = round(pace, 1)
