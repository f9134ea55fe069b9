"""`manage.py runloop` outlives what goes wrong in it, and leaves when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_failing_tick_is_logged_and_the_loop_goes_on_until_sigterm(tmp_path) -> None:
    log = tmp_path / "log"
    empty = {"PLUMBLINE_HOME": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3"}
    with log.open("w") as out:
        loop = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "runloop"],
            env=os.environ | empty,  # a database without tables
            stderr=out,
        )
    try:
        deadline = time.monotonic() + 30
        while log.read_text().count("this tick failed") < 2:
            assert loop.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(timeout=10) == 0
    finally:
        loop.kill()
