"""The demo's processes are restarted when they die and leave nobody behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from plumbline.demo.processes import PortBusy, Process, check_port, stop_all


def sleeper(folder: Path, said: list[str], code: str = "import time; time.sleep(60)") -> Process:
    return Process("sleeper", [sys.executable, "-c", code], folder / "log", os.environ, said.append)


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_dies_is_said_and_started_again(tmp_path) -> None:
    said: list[str] = []
    process = sleeper(tmp_path, said, "pass")
    process.start()
    until(process.gone)
    process.watch()
    assert "sleeper ended with status 0" in said[0]
    assert str(tmp_path / "log") in said[0]
    until(lambda: process.watch() or process._running is not None)
    stop_all([process])


def test_stopping_ends_a_process_that_ignores_sigterm(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("plumbline.demo.processes.GRACE_SECONDS", 0.5)
    code = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print(1, flush=True)"
    process = sleeper(tmp_path, [], code + "; time.sleep(60)")
    process.start()
    until(lambda: "1" in process.log.read_text())
    stop_all([process])
    until(process.gone)


def test_processes_die_with_a_demo_that_is_killed(tmp_path) -> None:
    starter = """
import os, sys, time
from pathlib import Path
from plumbline.demo.processes import Process
log = sys.argv[1]
code = "print(7, flush=True); import time; time.sleep(60)"
process = Process("s", [sys.executable, "-c", code], Path(log), os.environ, print)
process.start()
print(process._running.pid, flush=True)
time.sleep(60)
"""
    demo = subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    child = psutil.Process(int(demo.stdout.readline()))
    until(lambda: "7" in (tmp_path / "log").read_text())
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_busy_port_is_named_with_the_way_out() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortBusy) as refused:
            check_port(port, "PORT")
    assert str(refused.value) == (
        f"Port {port} is in use by another program; "
        f"choose another one with `make demo PORT={port + 10}`."
    )
    check_port(port, "PORT")  # free again
