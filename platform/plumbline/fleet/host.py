"""What a host has left: its processors, its memory, and its GPUs where the driver is there to ask.

Read from what every Linux has and from `nvidia-smi`; what cannot be read is left out, never zero.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

MEMORY = Path("/proc/meminfo")
ASKED = ("uuid", "name", "memory.used", "memory.total", "utilization.gpu")
SECONDS = 10.0


def facts() -> dict[str, Any]:
    """`cpus`, `load` (processes that ran or waited to, mean of a minute), `memory` [used, total]
    in bytes, `gpus`: a list of `gpus()`."""
    found: dict[str, Any] = {"cpus": os.cpu_count() or 0, "gpus": gpus()}
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    if (memory := _memory()) is not None:
        found["memory"] = memory
    return found


def gpus() -> list[dict[str, Any]]:
    """Of each GPU: `uuid`, `name`, `memory` [used, total] in bytes, `use` from 0 to 1; a figure
    that the driver does not know is None. None of them without a driver that answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if told.returncode:
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in told.stdout.splitlines()]
    return [_gpu(*row) for row in rows if len(row) == len(ASKED)]


def _gpu(uuid: str, name: str, used: str, total: str, use: str) -> dict[str, Any]:
    mebibytes = [_number(used), _number(total)]
    share = _number(use)
    return {
        "uuid": uuid,
        "name": name,
        "memory": [None if one is None else round(one * 2**20) for one in mebibytes],
        "use": None if share is None else share / 100,
    }


def _number(text: str) -> float | None:
    """None for "[N/A]" and its like."""
    try:
        return float(text)
    except ValueError:
        return None


def _memory() -> list[int] | None:
    """Bytes used, by the kernel's own estimate of what is available, and bytes in all."""
    try:
        lines = MEMORY.read_text().splitlines()
        known = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line}
        return [known["MemTotal"] - known["MemAvailable"], known["MemTotal"]]
    except (OSError, KeyError, ValueError, IndexError):
        return None
