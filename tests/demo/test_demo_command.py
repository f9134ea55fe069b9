"""`manage.py demo` as a person meets it: from nothing to a page, Ctrl-C, and once more."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.ports import free_port

pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parents[2]


class Demo:
    """A demo in a home of its own, and what it has printed so far."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        self.ports = [free_port() for _ in range(3)]
        names = ("--port", "--gateway-port", "--engine-port")
        chosen = [word for pair in zip(names, map(str, self.ports), strict=True) for word in pair]
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "demo", *chosen, *options],
            env=os.environ | {"PLUMBLINE_HOME": str(home), "PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line

    def wait_for(self, words: str, seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.printed:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.1)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


@pytest.fixture
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_the_demo_starts_stops_cleanly_and_goes_on(home) -> None:
    demo = Demo(home)
    try:
        demo.wait_for("Everything runs")
        links = re.findall(r"http://\S+/sign-in/\S+", demo.printed)
        assert len(links) == 3
        for link in links:
            assert httpx.get(link, trust_env=False).status_code == 200
        key = re.search(r"key (plk_\S+)", demo.printed)
        assert key is not None
        answer = httpx.post(
            f"http://127.0.0.1:{demo.ports[1]}/v1/chat/completions",
            json={"model": "current", "messages": [{"role": "user", "content": "Hello"}]},
            headers={"Authorization": f"Bearer {key[1]}"},
            trust_env=False,
            timeout=60,
        )
        assert answer.json()["model"] == "demo-base", answer.text
        second = Demo(home)
        assert second.process.wait(timeout=60) == 1
        assert "A demo already runs in" in second.printed
        demo.wait_for("round 1  Sample")
        children = demo.children()
        assert demo.stop() == 0
        assert not [child for child in children if child.is_running()]
    finally:
        demo.process.kill()
    again = Demo(home)
    try:
        again.wait_for("Everything runs")
        assert "key shown at the first start" in again.printed
        again.wait_for("round 1  Sample")
        children = again.children()
        again.process.kill()  # not even then is anybody left behind
        again.process.wait()
        psutil.wait_procs(children, timeout=30)
        assert not [child for child in children if child.is_running()]
    finally:
        again.process.kill()


def test_a_busy_port_is_refused_before_anything_starts(home) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        command = [sys.executable, str(ROOT / "manage.py"), "demo", "--port", str(port)]
        refused = subprocess.run(
            command, env=os.environ | {"PLUMBLINE_HOME": str(home)}, capture_output=True, text=True
        )
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith(f"choose another one with `make demo PORT={port + 10}`.")
    assert not (home / "db.sqlite3").exists()


def test_a_folder_without_a_model_is_refused(home) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "demo", "--base", str(home)]
    refused = subprocess.run(
        command, env=os.environ | {"PLUMBLINE_HOME": str(home)}, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "holds no model" in refused.stderr


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_the_demo_ends_with_a_policy_that_beats_its_base(home) -> None:
    demo = Demo(home, "--once")
    assert demo.process.wait(timeout=1100) == 0, demo.printed
    found = json.loads(demo.printed.strip().rsplit("\n", 1)[-1])
    assert found["low"] > 0.5
    assert found["policy"] != "demo-base"
    assert found.keys() == {"gold_win_rate", "low", "high", "kl", "seconds", "policy"}
