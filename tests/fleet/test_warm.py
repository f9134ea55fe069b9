"""Jobs forked from a process that has loaded their libraries: like programs of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from plumbline.fleet import warm
from plumbline.fleet.supervise import child_environment
from tests.fleet.house import wait_until

SAYS = """
import json, os, random, sys
import numpy
said = json.dumps({
    "name": __name__, "argv": sys.argv[1:], "session": os.getsid(0) == os.getpid(),
    "draws": [random.random(), float(numpy.random.rand())], "input": sys.stdin.read(),
    "loaded_by": os.getppid(), "nice": os.nice(0), "secret": os.environ.get("SECRET"),
})
os.write(1, said.encode() + b"\\n")  # at once: another fork writes to the same file
"""
SLEEPS = """
import sys, time
print("asleep", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "says": SAYS,
        "sleeps": SLEEPS,
        "leaves": "import sys\nsys.exit(int(sys.argv[1]))",
        "breaks": "raise ValueError('no such thing')",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[warm.Nursery]:
    monkeypatch.setattr(warm, "PROGRAM", (sys.executable, "-m", "align.warm", "numpy"))
    nursery = warm.Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def start(nursery: warm.Nursery, folder: Path) -> Callable[..., warm.Forked]:
    def start(*command: str, **more: str) -> warm.Forked:
        environment = child_environment() | more
        environment["PYTHONPATH"] += f":{folder}"
        with (folder / "output").open("ab") as output:
            return nursery.start(command, output, environment)

    return start


def said(folder: Path) -> str:
    return (folder / "output").read_text()


def test_a_fork_is_like_a_program_started_for_the_job(start, folder, settings) -> None:
    settings.JOB_NICE = 7
    first, second = start("says", "a", "b c"), start("says")
    assert (first.wait(60), second.wait(60)) == (0, 0)
    told = [json.loads(line) for line in said(folder).splitlines()]
    told.sort(key=lambda one: -len(one["argv"]))
    assert [one["argv"] for one in told] == [["a", "b c"], []]
    assert all(one["name"] == "__main__" and one["session"] for one in told)
    assert all(one["nice"] == os.nice(0) + 7 for one in told)
    assert all(one["input"] == "" and one["secret"] is None for one in told)
    assert told[0]["loaded_by"] == told[1]["loaded_by"]
    assert not set(told[0]["draws"]) & set(told[1]["draws"])


@pytest.mark.parametrize("status", [0, 2, 7])
def test_its_exit_status_is_told(start, status) -> None:
    assert start("leaves", str(status)).wait(60) == status


def test_an_error_ends_up_in_its_output(start, folder) -> None:
    assert start("breaks").wait(60) == 1
    assert "ValueError: no such thing" in said(folder)


def test_it_is_killed_like_any_process(start, folder) -> None:
    process = start("sleeps")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM


def test_when_the_process_it_comes_from_dies_it_dies_and_the_next_one_starts(start) -> None:
    process = start("sleeps")
    os.kill(psutil.Process(process.pid).ppid(), signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    wait_until(lambda: not psutil.pid_exists(process.pid))
    assert start("leaves", "3").wait(60) == 3


def test_another_environment_is_loaded_anew(start, folder) -> None:
    start("says").wait(60)
    start("says", SECRET="now known").wait(60)
    first, second = [json.loads(line) for line in said(folder).splitlines()]
    assert first["loaded_by"] != second["loaded_by"]
    assert (first["secret"], second["secret"]) == (None, "now known")


OWNER = """
import os, sys, time
from django.conf import settings
from plumbline.fleet import warm
settings.configure(JOB_NICE=0)
warm.PROGRAM = (sys.executable, "-m", "align.warm", "json")
with open(sys.argv[1], "ab") as output:
    process = warm.nursery.start(["sleeps"], output, dict(os.environ))
print(process.pid, flush=True)
time.sleep(600)
"""


def test_it_does_not_outlive_a_worker_that_was_killed(folder) -> None:
    environment = child_environment()
    environment["PYTHONPATH"] += f":{folder}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder / "output")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    job = psutil.Process(int(owner.stdout.readline()))
    loader = job.parent()
    owner.kill()
    owner.wait()
    psutil.wait_procs([job, loader], timeout=30)
    assert not job.is_running()
    assert not loader.is_running()
