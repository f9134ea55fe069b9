"""Sides run in turn, each in a fresh process, and what their reports say together.

A B A B: whatever else the machine does meets both alike. A process neither warms up nor disturbs
the next one, and its memory is its own. Figures are medians over rounds, with their range.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from align.tether import tethered

ROOT = Path(__file__).resolve().parents[3]
Report = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """Who is measured: a function of this folder, and its options."""

    name: str
    call: str  # "ours:train"
    options: Mapping[str, Any] = field(default_factory=dict)


def run(side: Side, threads: int) -> Report:
    """One side's report. Raises RuntimeError with the end of what it printed if it fails."""
    module, _, function = side.call.partition(":")
    target = f"tests.bench.speed.{module}:{function}"
    command = [sys.executable, "-m", "tests.bench.speed.child", target]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        options = json.dumps({**side.options, "scratch": scratch})
        done = subprocess.run(
            tethered(*command, options, by=signal.SIGKILL),
            cwd=ROOT,
            env=environment(threads, Path(scratch)),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"{side.name} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    report: Report = json.loads(done.stdout.splitlines()[-1])
    return report


def environment(threads: int, scratch: Path) -> dict[str, str]:
    """Nothing is fetched, nothing is cached between processes, and threads are counted."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(scratch / "datasets"),
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONWARNINGS": "ignore",
    }


def measure(sides: Sequence[Side], rounds: int, threads: int, log: Path) -> dict[str, list[Report]]:
    """Every side's reports, a round at a time; the round's number is its data's seed. Each is also
    a line in `log` at once, so that a bench that is stopped has not measured for nothing."""
    found: dict[str, list[Report]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            started = time.monotonic()
            options = {**side.options, "seed": number}
            report = run(Side(side.name, side.call, options), threads)
            found[side.name].append(report)
            with log.open("a") as lines:
                entry = {"at": time.time(), "side": side.name, "options": options, **report}
                lines.write(json.dumps(entry) + "\n")
            say(f"round {number + 1} of {rounds}, {side.name}: {time.monotonic() - started:.0f} s")
    return found


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def pace(report: Report, kind: str) -> float:
    """Useful tokens a second over all steps but the first. kind: "cpu" or "wall"."""
    spans = report["steps"][kind]
    return float(report["tokens_per_step"] * len(spans) / sum(spans))


def whole_pace(report: Report, kind: str) -> float:
    """The same from the first byte of work to the last step, the reference pass included."""
    return float(report["tokens"]) / float(report["whole"][kind])


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median and range, to significant digits."""
    return {
        "median": significant(statistics.median(values), digits),
        "low": significant(min(values), digits),
        "high": significant(max(values), digits),
    }


def significant(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


def figures(reports: Sequence[Report]) -> dict[str, Any]:
    """One side's figures over its rounds."""
    return {
        "tokens_per_cpu_second": spread([pace(one, "cpu") for one in reports]),
        "tokens_per_second": spread([pace(one, "wall") for one in reports]),
        "whole_tokens_per_cpu_second": spread([whole_pace(one, "cpu") for one in reports]),
        "whole_tokens_per_second": spread([whole_pace(one, "wall") for one in reports]),
        **{
            name: spread([one[name] for one in reports])
            for name in ("rss_gib", "gpu_gib")
            if name in reports[0]
        },
    }


def ratios(ours: Sequence[Report], theirs: Sequence[Report]) -> dict[str, Any]:
    """Ours over theirs: the ratio of the medians, and the range of the rounds' own ratios."""

    def compare(rate: Any, kind: str) -> dict[str, float]:
        mine, other = ([rate(one, kind) for one in side] for side in (ours, theirs))
        each = [a / b for a, b in zip(mine, other, strict=True)]
        middle = statistics.median(mine) / statistics.median(other)
        return {**spread(each), "median": significant(middle)}

    where = "gpu_gib" if "gpu_gib" in ours[0] else "rss_gib"
    held, theirs_held = (statistics.median(one[where] for one in side) for side in (ours, theirs))
    return {
        "cpu": compare(pace, "cpu"),
        "wall": compare(pace, "wall"),
        "whole_cpu": compare(whole_pace, "cpu"),
        "whole_wall": compare(whole_pace, "wall"),
        "memory": significant(held / theirs_held),
    }


def telling(reports: Sequence[Report]) -> str:
    """Which seconds to judge by: the processor's, or the wall's where a GPU does the work."""
    return "wall" if "gpu_gib" in reports[0] else "cpu"


def machine(threads: int) -> dict[str, Any]:
    """What the figures were taken on. Load average: who else was there."""
    import torch

    return {
        "cores": os.cpu_count(),
        "cpu": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": threads,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
    }


def processor() -> str:
    """The processor's name, and whether it has the matrix units that bf16 likes."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    units = [unit for unit in ("avx512_bf16", "amx_bf16") if unit in fields.get("flags", "")]
    return " ".join([fields.get("model name", platform.machine()), *units])


def peer() -> str:
    return f"trl {version('trl')}"
