"""Ranks for tests: processes forked from this one, which share what is loaded and talk by gloo."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from align import run
from tests.align.conftest import Work


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
    """A job program as `align.gpu.ranks.main` runs it in each rank."""

    def action() -> None:
        holding: Any = run.hold if dist.get_rank() == 0 else run.follow
        run.main(work, [str(folder)], holding)

    return action


def _as_rank(rank: int, size: int, meeting: Path, action: Callable[[], object]) -> int:
    status = 1
    try:
        dist.init_process_group(
            "gloo", f"file://{meeting}/store", timedelta(seconds=30), world_size=size, rank=rank
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
