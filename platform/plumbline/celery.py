"""Celery as a doorbell: messages say that a queue has work; the database says what it is.

Acknowledged early, one at a time, no result stored: a lost message costs a few seconds, never a
job. Workers: `manage.py worker cpu` and `manage.py worker gpu`.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plumbline.settings")

from django.conf import settings  # noqa: E402  # needs the line above

app = Celery("plumbline")
app.conf.update(
    broker_url=settings.REDIS_URL,
    # Whoever rings must not wait for a Redis that is down, slow or full: the page comes first.
    broker_transport_options={
        "socket_connect_timeout": 1.0,
        "socket_timeout": 3.0,  # more than the second for which a worker listens at a time
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # for ever
    broker_channel_error_retry=True,
    imports=["plumbline.fleet.tasks"],
    accept_content=["json"],
    task_serializer="json",
    task_acks_late=False,
    task_ignore_result=True,
    result_backend=None,
    task_create_missing_queues=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
