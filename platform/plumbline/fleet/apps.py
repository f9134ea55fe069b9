"""What `manage.py check` says about a host whose engine leaves no GPU to jobs."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning, register


class FleetConfig(AppConfig):
    name = "plumbline.fleet"

    def ready(self) -> None:
        register(gpus_left)


def gpus_left(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """A warning only: such a host may well run the engine, the pages and CPU workers."""
    from plumbline.fleet import devices  # its models exist only now

    said = devices.none_left()
    return [Warning(said, id="fleet.W001")] if said else []
