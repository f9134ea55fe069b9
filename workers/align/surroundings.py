"""Where a job ran: the code, the packages and the hardware, for whoever wants to run it again.

Kept with a job's result and never in a manifest, for equal work on other machines has equal
manifests. Loads no library: of a GPU it knows what the job itself has begun to use.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("plumbline", "torch", "transformers", "peft", "safetensors", "numpy", "httpx")
SOURCE = Path(__file__).resolve().parent
TOLD = ("data_sha256", "base_sha256", "template_sha256", "seed")  # of what a manifest says
MANIFEST = "manifest.json"
HEAD = 1 << 20  # bytes of a file that tell it from another one


def found(weights: Path) -> dict[str, Any]:
    """All there is to say, as JSON; of a job that made `weights` also what they came from."""
    return {
        "commit": commit(),
        "packages": {"python": platform.python_version(), **packages()},
        "hardware": hardware(),
        **made_from(weights),
    }


def commit(folder: Path = SOURCE) -> str | None:
    """The commit of the code that runs, "-dirty" behind it where files differ from it; None where
    it is no checkout or there is no git."""
    command = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    command += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def packages() -> dict[str, str]:
    """Versions of those that a result may depend on, as far as they are installed."""
    known = {}
    for name in PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known


def hardware() -> dict[str, Any]:
    """The processor, the cores this process may use, memory in GiB, and the GPUs it has used."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": round(pages * size / 2**30, 1),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()}",
    }


def made_from(weights: Path) -> dict[str, Any]:
    """What the manifest of committed weights says they came from."""
    try:
        metadata = json.loads((weights / MANIFEST).read_bytes())["metadata"]
    except (OSError, ValueError, KeyError):
        return {}
    told = {name: metadata[name] for name in TOLD if metadata.get(name) is not None}
    base = (metadata.get("start") or {}).get("base")
    if revision := told.pop("base_sha256", None) or (base and base_revision(Path(base))):
        told["base_revision"] = revision
    return told


def base_revision(base: Path) -> str | None:
    """Which base model a folder holds that nobody committed with a manifest: the revision that the
    hub's cache has in its path, else a SHA-256 of its files' names, sizes and first MiB, which
    reading gigabytes would not tell much better. None where there is no such folder."""
    if base.parent.name == "snapshots":
        return base.name
    files = sorted(one for one in base.rglob("*") if one.is_file())
    told = hashlib.sha256()
    for one in files:
        told.update(f"{one.relative_to(base)} {one.stat().st_size}\n".encode())
        with one.open("rb") as content:
            told.update(content.read(HEAD))
    return f"outline {told.hexdigest()}" if files else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return []
    return [str(cuda.get_device_name(index)) for index in range(cuda.device_count())]
