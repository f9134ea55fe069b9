"""Runs a job program so that it cannot outlive its worker: `run_child PARENT MODULE RUNDIR`.

The kernel is asked to kill this process when the parent dies, also by SIGKILL, before the program
is imported. A separate step, because code between fork and exec is not safe in a worker that has
threads.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, module, folder = sys.argv[1:]
    die_with_parent(int(parent))
    sys.argv = [module, folder]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def die_with_parent(parent: int) -> None:
    """Linux only; elsewhere a job that lost its worker ends when the next attempt takes its lock."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before the kernel knew of our wish
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
