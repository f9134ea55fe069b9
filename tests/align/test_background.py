"""Checkpoints are written beside the next steps: whole, one at a time, and never in silence."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import jobs
from align.gpu import checkpoint, train
from align.gpu.background import Background
from align.run import Run
from tests.align.conftest import die, do, forked, metrics

PATIENCE = 60.0


def while_writing(step: int, wait: Callable[[], object]) -> None:
    """Hold up the write of one checkpoint when its files are there and its name is not."""
    real = checkpoint.commit

    def commit(folder: Path, writer: Callable[[Path], None], metadata: Any = None) -> Any:
        def slow(stray: Path) -> None:
            writer(stray)
            wait()

        return real(folder, slow if folder.name == f"step-{step:08d}" else writer, metadata)

    checkpoint.commit = commit


def at_metrics(action: Callable[[int], object]) -> None:
    """Call `action` when a step's figures are logged."""
    real = Run.metrics

    def metrics(self: Run, step: int, values: Any) -> None:
        real(self, step, values)
        action(step)

    Run.metrics = metrics  # type: ignore[method-assign]


def test_steps_go_on_while_a_checkpoint_is_written_and_it_holds_the_step_it_names(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("slow")

    def crash() -> None:
        later, written = threading.Event(), threading.Event()

        def hold() -> None:
            assert later.wait(PATIENCE), "the loop waited for the write"

        def action(step: int) -> None:
            if step == 6:  # two optimiser steps beyond what is being written
                later.set()
                while not (folder / jobs.CHECKPOINTS / "step-00000004").is_dir():
                    time.sleep(0.01)
                written.set()
                die()

        while_writing(4, hold)
        at_metrics(action)
        do(train.work, folder)

    assert forked(crash) == -signal.SIGKILL
    assert do(train.work, folder)["sha256"] == whole
    assert "resumed from step 4" in (folder / jobs.EVENTS).read_text()


def test_killed_in_the_middle_of_a_write_the_older_checkpoint_is_good(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("killed")

    def crash() -> None:
        written = threading.Event()

        def hold() -> None:
            written.set()
            time.sleep(PATIENCE)

        def action(step: int) -> None:
            if step == 5:
                assert written.wait(PATIENCE)
                die()

        while_writing(4, hold)
        at_metrics(action)
        do(train.work, folder)

    assert forked(crash) == -signal.SIGKILL
    names = sorted(path.name for path in (folder / jobs.CHECKPOINTS).iterdir())
    assert [name.partition("-")[0] for name in names] == [".tmp", "step"]
    assert do(train.work, folder)["sha256"] == whole
    assert "resumed from step 2" in (folder / jobs.EVENTS).read_text()


def test_there_are_never_two_at_once(
    fresh: Callable[[str], Path], whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, now, most = checkpoint.commit, [0], [0]

    def commit(folder: Path, *rest: Any) -> Any:
        now[0] += 1
        most[0] = max(now[0], most[0])
        time.sleep(0.1)
        try:
            return real(folder, *rest)
        finally:
            now[0] -= 1

    monkeypatch.setattr(checkpoint, "commit", commit)
    folder = fresh("one")
    assert do(train.work, folder)["sha256"] == whole
    assert most[0] == 1
    kept = [path.name for path in checkpoint.numbered(folder / jobs.CHECKPOINTS)]
    assert kept == ["step-00000006", "step-00000008"]


def test_a_write_that_fails_ends_the_attempt_with_its_own_error(
    fresh: Callable[[str], Path],
    whole: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = checkpoint.commit

    def full(folder: Path, *rest: Any) -> Any:
        if folder.name == "step-00000004":
            raise OSError(28, "No space left on device")
        return real(folder, *rest)

    folder = fresh("full")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "commit", full)
        with pytest.raises(SystemExit) as stop:
            do(train.work, folder)
    assert stop.value.code == jobs.DISK_FULL
    assert "(No space left on device)" in capsys.readouterr().err
    assert len(metrics(folder)) <= 6  # the next checkpoint waits for this one
    assert do(train.work, folder)["sha256"] == whole


def test_an_error_of_the_loop_is_not_hidden_by_one_of_a_write() -> None:
    def broken() -> None:
        raise OSError("no space")

    def both() -> None:
        with Background() as background:
            background.start(broken)
            raise ValueError("the loss became nan")

    with pytest.raises(ValueError, match="loss"):
        both()
    with pytest.raises(OSError, match="no space"), Background() as background:
        background.start(broken)
