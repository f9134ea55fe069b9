"""Time and memory of one measured side, in the process that does nothing else.

CPU seconds are those of this process with all its threads, and of the children it names; with one
thread they barely feel what else the machine does, which wall seconds do.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Moment:
    cpu: float
    wall: float

    def since(self, earlier: Moment) -> Moment:
        return Moment(self.cpu - earlier.cpu, self.wall - earlier.wall)


@dataclass
class Clock:
    """Marks when training began and when each optimiser step was done.

    settled: waits for an accelerator; others: CPU seconds of processes that work for this one.
    """

    settled: Callable[[], None] = lambda: None
    others: Callable[[], float] = lambda: 0.0
    begun: Moment | None = None
    steps: list[Moment] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)

    def now(self) -> Moment:
        self.settled()
        return Moment(time.process_time() + self.others(), time.perf_counter())

    def begin(self) -> None:
        """What comes before training proper (loading, tokenizing) is over; the first call counts"""
        if self.begun is None:
            self.begun = self.now()

    def step(self) -> None:
        self.steps.append(self.now())

    def report(self, tokens: int) -> dict[str, Any]:
        """Seconds by step and in all. `tokens`: useful ones of the whole training.

        The first step also sets up the optimiser and every kernel, so it is left out of `steps`;
        `whole` holds it, and the reference pass where there was one.
        """
        assert self.begun is not None, "the training never began"
        spans = [
            now.since(before) for before, now in zip(self.steps[:-1], self.steps[1:], strict=True)
        ]
        whole = self.steps[-1].since(self.begun)
        return {
            "tokens": tokens,
            "tokens_per_step": tokens / len(self.steps),
            "steps": {"cpu": [s.cpu for s in spans], "wall": [s.wall for s in spans]},
            "whole": {"cpu": whole.cpu, "wall": whole.wall},
            "first": self.figures[0] if self.figures else {},
            **memory(),
        }


def memory() -> dict[str, float]:
    """The most memory this process has held, and its accelerator."""
    import torch

    found = {"rss_gib": peak_resident() / GIB}
    if torch.cuda.is_available():
        found["gpu_gib"] = torch.cuda.max_memory_allocated() / GIB
    return found


def peak_resident() -> int:
    """Bytes. Of this program alone: what getrusage calls the peak includes the process it was
    started from, where there is no /proc to ask instead."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024


def settle() -> Callable[[], None]:
    """Wait for the GPU, where there is one."""
    import torch

    return torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
