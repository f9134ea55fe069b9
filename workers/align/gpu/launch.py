"""`python -m align.gpu.launch N MODULE RUNDIR`: a job of several processes, on this host.

torchrun's agent starts N ranks of `python -m MODULE RUNDIR`, watches them and ends all of them when
one is gone; none outlives it. The exit status is the one a single process would have had, and the
last line says which rank failed, and how. For several hosts there is torchrun itself.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from align.gpu.ranks import LOST
from align.tether import tethered

STOPPED = 75  # exit status of a rank that was told to stop
LOGS = "ranks"  # in the run directory: what ranks other than 0 wrote in the last attempt
TAIL = 25  # lines that a rank other than 0 is quoted with


def main(argv: list[str]) -> int:
    """The exit status of the job: see `align.run.main`."""
    if len(argv) != 3 or not argv[0].isdigit() or not int(argv[0]):
        sys.exit("usage: python -m align.gpu.launch N MODULE RUNDIR")
    count, module, folder = int(argv[0]), argv[1], argv[2]
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what it knows is said below
    # Nobody but these ranks is to be heard, and they share the cores.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    command = tethered(sys.executable, "-m", module, folder, by=signal.SIGKILL)
    # Rank 0 speaks for all; what the others say is kept apart, and quoted if it matters.
    logs = Path(folder) / LOGS
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    quiet = dict.fromkeys(range(1, count), Std.ALL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=quiet),
    )
    try:
        elastic_launch(config, command[0])(*command[1:])
    except SignalException:
        return STOPPED
    except ChildFailedError as error:
        return explain(error.failures.items(), count, logs)
    return 0


def explain(failures: Iterable[tuple[int, ProcessFailure]], count: int, logs: Path) -> int:
    """Say which rank failed first, and return its exit status."""
    found = list(failures)
    rank, first = min(found, key=lambda item: (blame(item[1]), item[0]))
    if first.exitcode == STOPPED:
        return STOPPED
    if rank:
        for path in logs.rglob(f"{rank}/stderr.log"):
            print(*path.read_text(errors="replace").splitlines()[-TAIL:], sep="\n", file=sys.stderr)
    if first.exitcode == 2 and not rank:  # its own words are enough
        return 2
    how = (
        f"was ended by {signal.Signals(-first.exitcode).name}"
        if first.exitcode < 0
        else "waited for another one in vain"
        if first.exitcode == LOST
        else f"ended with exit status {first.exitcode}"
    )
    print(f"Rank {rank} of {count} (process {first.pid}) {how}.", file=sys.stderr)
    return 2 if first.exitcode == 2 else 1


def blame(failure: ProcessFailure) -> int:
    """Who fell by itself: 0; more for those that only followed, the last those the agent ended."""
    # Gloo aborts a process, now and then, that loses another one.
    followed = [STOPPED, LOST, -signal.SIGABRT, -signal.SIGTERM]
    return followed.index(failure.exitcode) + 1 if failure.exitcode in followed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
