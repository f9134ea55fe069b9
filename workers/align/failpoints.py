"""Named places where tests stop, kill or fail a process; nothing happens there otherwise.

`PLUMBLINE_FAILPOINTS` names a folder, and a file in it named as the place is an order: `kill`,
`stop` (SIGSTOP), `error`, `full` (the disk is), `sleep 2.5`, each with `after 3` behind it to let
the place be reached three times first. Whoever reaches the place takes the order by renaming it to
`NAME.PID`, so an order strikes once, whatever is started again meanwhile, and the new name proves
that it struck, and whom. Production refuses to start with the variable set.

After FreeBSD's fail(9) and TiKV's fail-rs; orders in files reach processes that already run.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

FOLDER = os.environ.get("PLUMBLINE_FAILPOINTS", "")


class Struck(RuntimeError):
    """What the order `error` raises."""


def reach(name: str) -> None:
    """The process has come to the place `name`. Raises Struck or OSError where it is told to."""
    if FOLDER:
        _obey(Path(FOLDER), name)


def _obey(folder: Path, name: str) -> None:
    taken = folder / f"{name}.{os.getpid()}"
    try:
        os.rename(folder / name, taken)
    except FileNotFoundError:
        return
    order, *rest = taken.read_text().split()
    if "after" in rest and (left := int(rest[rest.index("after") + 1])) > 0:
        rest[rest.index("after") + 1] = str(left - 1)
        taken.write_text(" ".join((order, *rest)))
        os.rename(taken, folder / name)
        return
    _strike(name, order, rest)


def _strike(name: str, order: str, rest: list[str]) -> None:
    if order in ("kill", "stop"):
        os.kill(os.getpid(), signal.SIGKILL if order == "kill" else signal.SIGSTOP)
    elif order == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    elif order == "error":
        raise Struck(f"failpoint {name}")
    elif order == "sleep":
        time.sleep(float(rest[0]))
    else:
        raise ValueError(f"the failpoint {name} does not know {order!r}")
