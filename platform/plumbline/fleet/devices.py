"""Which GPUs a job runs on: as many as it asks for, none that another job has.

A claim is a row, good for as long as its job runs in the epoch that took it; so the GPUs of a job
that ended, or whose worker died, are free without anybody freeing them. On a host without GPUs
nothing is claimed, and jobs run side by side.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import cache

from django.conf import settings
from django.db.models import F, QuerySet

from plumbline.fleet.models import Device, Job

GPU_QUEUE = "gpu"
NONE = ("none", "-1")


def found() -> tuple[str, ...]:
    """This host's GPUs that jobs may have, by names that no other host has: those of
    `settings.GPUS` without the engine's, which come last where the engine lends them."""
    engines = of_engine()
    free = [name for name in of_host() if name not in engines]
    lent = [name for name in of_host() if name in engines] if settings.ENGINE_SLEEPS else []
    return (*free, *lent)


def of_host() -> tuple[str, ...]:
    """What `settings.GPUS` says: "all", "none", or which by number or UUID."""
    if settings.GPUS in NONE:
        return ()
    return tuple(_by_number().values()) if settings.GPUS == "all" else _named(settings.GPUS)


def of_engine() -> tuple[str, ...]:
    """The GPUs the engine runs on, as far as `settings.ENGINE_GPUS` says; none on other hosts."""
    return () if settings.ENGINE_GPUS in NONE else _named(settings.ENGINE_GPUS)


def none_left() -> str | None:
    """Why GPU jobs have nowhere to run on this host, if the engine has all of its GPUs."""
    if found() or not of_host():
        return None
    return (
        f"The engine has all GPUs that jobs might use here (GPUS={settings.GPUS}, "
        f"ENGINE_GPUS={settings.ENGINE_GPUS}): name fewer in ENGINE_GPUS, or let the engine lend "
        "them with ENGINE_SLEEPS=1."
    )


def reserve(job: Job, gpus: Sequence[str]) -> list[str] | None:
    """Claim what `job` needs of a host's GPUs, in the transaction that claims the job; their names.
    None when too many are taken. A job that asks for more than the host has gets all of them."""
    if job.queue != GPU_QUEUE or not gpus:
        return []
    wanted = min(asked(job), len(gpus))
    _of_none(gpus).delete()
    while True:
        taken = set(Device.objects.filter(name__in=gpus).values_list("name", flat=True))
        have = held(job)
        free = [name for name in gpus if name not in taken]
        if have and len(have) >= wanted:
            return have
        if len(free) < max(1, wanted - len(have)):
            return None
        # Another worker may be faster; then what it left is looked at again.
        more = free[: wanted - len(have)] if wanted else free
        claims = [Device(name=name, job=job, epoch=job.epoch) for name in more]
        Device.objects.bulk_create(claims, ignore_conflicts=True)


def held(job: Job) -> list[str]:
    """The GPUs that this claim of a job has."""
    return list(job.devices.filter(epoch=job.epoch).order_by("pk").values_list("name", flat=True))


def asked(job: Job) -> int:
    """How many processes a job wants; 0: one for each free GPU."""
    return int(job.spec.get("processes", 1))


def processes(job: Job, gpus: Sequence[str]) -> int:
    """How many processes a job is run by: one on each of its GPUs."""
    return len(gpus) or asked(job) or 1


def environment(gpus: Sequence[str]) -> dict[str, str]:
    """What tells a child its GPUs."""
    if not gpus:  # it must not take the engine's, nor any where GPUS is none
        return {"CUDA_VISIBLE_DEVICES": ""} if of_engine() or settings.GPUS in NONE else {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(name.rpartition("/")[2] for name in gpus)}


def _of_none(gpus: Sequence[str]) -> QuerySet[Device]:
    """Claims that no longer hold."""
    holding = Device.objects.filter(job__state=Job.State.RUNNING, epoch=F("job__epoch"))
    return Device.objects.filter(name__in=gpus).exclude(pk__in=holding.values("pk"))


def _named(names: str) -> tuple[str, ...]:
    numbered, host = _by_number(), socket.gethostname()
    each = [name.strip() for name in names.split(",") if name.strip()]
    return tuple(numbered.get(n, f"{host}/{n}") if n.isdigit() else n for n in each)


@cache
def _by_number() -> dict[str, str]:
    """NVIDIA's UUIDs of this host's GPUs by their numbers; none without its driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    told = subprocess.run(
        [program, "--query-gpu=index,uuid", "--format=csv,noheader"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    pairs = (line.split(",") for line in told.stdout.splitlines() if told.returncode == 0)
    return {number.strip(): name.strip() for number, name in pairs}
