"""`manage.py worker cpu`, `manage.py worker gpu`: a Celery worker process for these queues.

One job at a time per process; start more processes for more. Start as many for `gpu` as jobs are to
run side by side on this host: each takes GPUs that no other has, out of those that GPUS names.
Works without Redis too, only less promptly.
"""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from align import jobs
from plumbline.celery import app
from plumbline.fleet import devices


class Command(BaseCommand):
    help = "Do the jobs of the named queues until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("queues", nargs="+", choices=sorted(set(jobs.QUEUES.values())))

    def handle(self, *args: Any, **options: Any) -> None:
        if devices.GPU_QUEUE in options["queues"] and (said := devices.none_left()):
            raise CommandError(said)
        name = "-".join(options["queues"])
        app.worker_main(
            [
                "worker",
                *("--queues", ",".join(options["queues"])),
                # Threads: the job itself is a process of its own, and this one keeps listening.
                *("--pool", "threads", "--concurrency", "1"),
                *("--hostname", f"{name}-{os.getpid()}@%h"),
                *("--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ]
        )
