"""A place does what its order says, once, and nothing where nobody ordered anything."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from align import failpoints


@pytest.fixture
def orders(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(failpoints, "FOLDER", str(tmp_path))
    return tmp_path


def test_nothing_happens_without_an_order(orders):
    failpoints.reach("nowhere")
    assert not list(orders.iterdir())


def test_an_order_strikes_once_and_leaves_proof(orders):
    (orders / "here").write_text("error")
    with pytest.raises(failpoints.Struck, match="here"):
        failpoints.reach("here")
    failpoints.reach("here")
    assert [path.name for path in orders.iterdir()] == [f"here.{os.getpid()}"]


def test_a_place_is_passed_before_it_strikes(orders):
    (orders / "here").write_text("full after 2")
    failpoints.reach("here")
    failpoints.reach("here")
    with pytest.raises(OSError, match="here") as raised:
        failpoints.reach("here")
    assert raised.value.errno == errno.ENOSPC


def test_an_order_that_nobody_knows_is_refused(orders):
    (orders / "here").write_text("explode")
    with pytest.raises(ValueError, match="'explode'"):
        failpoints.reach("here")


def test_a_process_is_killed_where_it_stands(tmp_path):
    (tmp_path / "middle").write_text("kill")
    program = "from align import failpoints; failpoints.reach('middle'); print(1)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PLUMBLINE_FAILPOINTS": str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert not done.stdout


def test_production_refuses_to_start_with_failpoints(tmp_path):
    given = {"PLUMBLINE_FAILPOINTS": str(tmp_path), "PLUMBLINE_PRODUCTION": "1"}
    given |= {"SECRET_KEY": "k" * 60, "ALLOWED_HOSTS": "plumbline.example"}
    program = "import plumbline.settings"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | given, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "PLUMBLINE_FAILPOINTS" in done.stderr
