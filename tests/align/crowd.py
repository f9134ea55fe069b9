"""Ranks for tests: processes forked from this one, which share what is loaded and talk by gloo."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from align.gpu.ranks import take_part
from tests.align.conftest import Work

TIMEOUT = timedelta(seconds=60)  # of a rank that waits for another


def together(size: int, action: Callable[[], object]) -> list[int]:
    """Do `action` as each of `size` ranks; their exit statuses, or minus their signals."""
    meeting = Path(tempfile.mkdtemp())
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os._exit(_as_rank(rank, size, meeting, action))
        children.append(child)
    found = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    shutil.rmtree(meeting)
    return found


def doing(work: Work, folder: Path) -> Callable[[], None]:
    """A job program as torchrun's ranks run it."""
    return lambda: take_part(work, [str(folder)])


def _as_rank(rank: int, size: int, meeting: Path, action: Callable[[], object]) -> int:
    status = 1
    try:
        dist.init_process_group(
            "gloo", f"file://{meeting}/store", TIMEOUT, world_size=size, rank=rank
        )
        action()
        dist.barrier()
        dist.destroy_process_group()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    return status
