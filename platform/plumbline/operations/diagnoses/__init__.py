"""What `manage.py doctor` looks at, in the order in which it says so."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.operations.diagnoses import engines, machine, services
from plumbline.operations.diagnosis import Diagnosis

EVERY: dict[str, Callable[[], Diagnosis]] = {
    "python": machine.python,
    "home": machine.home,
    "disk": machine.disk,
    "secret key": machine.secret_key,
    "production": machine.production,
    "sandbox": machine.sandbox,
    "gpus": machine.gpus,
    "database": services.database,
    "migrations": services.migrations,
    "clock": services.clock,
    "redis": services.redis,
    "loop": services.loop,
    "workers": services.workers,
    "wishes": services.wishes,
    "engine": engines.answers,
    "vllm": engines.vllm,
}
