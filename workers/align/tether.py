"""Starts a program that cannot outlive its parent: `tether PARENT_PID SIGNAL PROGRAM [ARG..]`.

The kernel is asked to send SIGNAL when the parent dies, also by SIGKILL; then this process becomes
PROGRAM, which keeps the wish. A separate step, because code between fork and exec is not safe in a
worker that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, name, *command = sys.argv[1:]
    die_with_parent(int(parent), signal.Signals[name])
    os.execvp(command[0], command)


def tethered(*command: str, by: signal.Signals) -> list[str]:
    """The command line that runs `command` as a child that gets `by` when this process dies."""
    launcher = [sys.executable, "-m", "align.tether"]
    return [*launcher, str(os.getpid()), by.name, *command]


def die_with_parent(parent: int, by: signal.Signals) -> None:
    """Linux only; elsewhere a job without its worker ends when the next attempt takes its lock."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, by) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before the kernel knew of our wish
        os.kill(os.getpid(), by)


if __name__ == "__main__":
    main()
