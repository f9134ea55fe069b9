"""vLLM's CPU build on few cores, in one process that computes with all of them but one.

By default it computes in a process of its own, and its scheduler and that process wait for each
other in loops that never sleep (vLLM 0.32, `SpinCondition`): two cores are busy as long as anybody
asks, and what else runs on them, the gateway and the pages, slows the answers down. Its CPU build
turns `--distributed-executor-backend uni` back into that, for it sets the threads' affinities by
starting a process; here the number of threads is told instead, and the class by its name.
`make bench NAME=gateway ARGS="--spin"` measures both.
"""

from __future__ import annotations

import os

MOST = 4  # cores; on more, two that wait are not missed, and affinities tell
EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def arguments() -> list[str]:
    """What vLLM's command line has beside the usual; nothing where there are cores enough."""
    return ["--distributed-executor-backend", EXECUTOR] if _few() else []


def environment() -> dict[str, str]:
    threads = max(1, len(os.sched_getaffinity(0)) - 1)
    return {"OMP_NUM_THREADS": str(threads)} if _few() else {}


def _few() -> bool:
    return len(os.sched_getaffinity(0)) <= MOST
