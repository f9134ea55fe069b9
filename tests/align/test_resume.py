"""Killed at any instant, a training run ends with the bits of one that never was."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from align import jobs
from align.gpu import checkpoint, train
from align.run import Run
from tests.align.conftest import do, forked, metrics, pairs, result
from tests.align.test_checkpoint import dying_at

SEED = random.randrange(10**6)  # shown when a test fails, to replay its schedule


def kill_at_step(folder: Path, step: int, signum: int = signal.SIGKILL) -> int:
    def action() -> None:
        real = Run.metrics

        def metrics(self: Run, at: int, values: dict[str, float]) -> None:
            if at == step:
                os.kill(os.getpid(), signum)
            real(self, at, values)

        Run.metrics = metrics  # type: ignore[assignment,method-assign]
        do(train.work, folder)

    return forked(action)


def test_killed_at_any_step_it_ends_with_the_same_weights(
    fresh: Callable[[str], Path], whole: str
) -> None:
    for step in range(1, 10):
        folder = fresh(f"step-{step}")
        assert kill_at_step(folder, step) == -signal.SIGKILL
        assert not (folder / jobs.RESULT).exists()
        assert do(train.work, folder)["sha256"] == whole, f"killed at step {step}"


def test_killed_again_and_again_it_still_ends_with_the_same_weights(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("often")
    for step in (2, 4, 5, 8):
        kill_at_step(folder, step)
    assert do(train.work, folder)["sha256"] == whole


def test_a_resumed_run_reports_the_same_figures(
    fresh: Callable[[str], Path], tmp_path: Path, whole: str
) -> None:
    folder = fresh("figures")
    kill_at_step(folder, 6)
    do(train.work, folder)
    mine, theirs = result(folder), result(tmp_path / "whole")
    for name in ("loss", "accuracy", "margin", "steps", "tokens"):
        assert mine[name] == theirs[name]
    assert metrics(folder)[-1] == metrics(tmp_path / "whole")[-1]


def test_killed_between_any_two_writes_it_ends_with_the_same_weights(
    fresh: Callable[[str], Path], whole: str
) -> None:
    """Reference cache, checkpoints, final weights and result: every commit is hit."""

    def count_calls() -> None:
        seen = dying_at(10**6)
        do(train.work, fresh("count"))
        (Path(os.environ["CALLS"])).write_text(str(len(seen)))

    os.environ["CALLS"] = str(fresh("calls") / "calls")
    assert forked(count_calls) == 0
    total = int(Path(os.environ.pop("CALLS")).read_text())
    assert total > 30
    rng = random.Random(SEED)
    for at in sorted({0, total - 1, *rng.sample(range(total), 14)}):
        folder = fresh(f"call-{at}")

        def crash(folder: Path = folder, at: int = at) -> None:
            dying_at(at)
            do(train.work, folder)

        assert forked(crash) == -signal.SIGKILL
        assert do(train.work, folder)["sha256"] == whole, f"killed at call {at}, seed {SEED}"
        strays = [path.relative_to(folder) for path in folder.rglob(".tmp-*")]
        assert not strays


def test_told_to_stop_it_saves_its_state_and_goes_on_later(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("stop")
    assert kill_at_step(folder, 3, signal.SIGTERM) == 75
    assert checkpoint.numbered(folder / jobs.CHECKPOINTS)[-1].name == "step-00000003"
    assert do(train.work, folder)["sha256"] == whole
    assert len(metrics(folder)) == 9


def test_a_spoilt_checkpoint_is_passed_over_for_the_one_before(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("spoilt")
    kill_at_step(folder, 6, signal.SIGTERM)  # which waits for the checkpoint
    newest = sorted((folder / jobs.CHECKPOINTS).iterdir())[-1]
    assert newest.name == "step-00000006"
    with (newest / "state.safetensors").open("r+b") as state:
        state.seek(-5, os.SEEK_END)
        state.write(b"\x00\x01\x02")
    assert do(train.work, folder)["sha256"] == whole
    log = (folder / jobs.EVENTS).read_text()
    assert "checkpoint passed over" in log
    assert "resumed from step 4" in log


def test_a_spoilt_reference_cache_is_computed_again(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("cache")
    kill_at_step(folder, 7)
    (folder / train.REFERENCES / train.TENSORS).write_bytes(b"")
    assert do(train.work, folder)["sha256"] == whole


def test_the_reference_pass_is_not_done_twice(fresh: Callable[[str], Path]) -> None:
    folder = fresh("once")
    kill_at_step(folder, 5)
    do(train.work, folder)
    assert (folder / jobs.EVENTS).read_text().count("log-probabilities under") == 1


def test_checkpoints_of_other_data_are_not_taken_up(
    fresh: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fresh("other")
    kill_at_step(folder, 7)
    jobs.write_rows(folder / jobs.EXAMPLES, pairs(8))
    with pytest.raises(SystemExit) as stop:
        do(train.work, folder)
    assert stop.value.code == 2
    assert "belongs to another job or other data" in capsys.readouterr().err


def test_a_full_disk_fails_the_attempt_and_the_next_one_goes_on(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("full")
    kill_at_step(folder, 5)
    kept = [path.name for path in checkpoint.numbered(folder / jobs.CHECKPOINTS)]

    def no_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        do(train.work, folder)

    assert forked(no_space) == jobs.DISK_FULL
    assert sorted(path.name for path in (folder / jobs.CHECKPOINTS).iterdir()) == kept
    assert do(train.work, folder)["sha256"] == whole


def test_running_a_finished_job_again_changes_nothing(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("again")
    do(train.work, folder)
    assert do(train.work, folder)["sha256"] == whole


def test_as_a_program_killed_from_outside(fresh: Callable[[str], Path], whole: str) -> None:
    """No forks and no patches: the command an operator types, kill -9, and the command again."""
    folder = fresh("program")
    command = [sys.executable, "-m", "align.gpu.train", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        events = folder / jobs.EVENTS
        if events.exists() and '"type": "metric"' in events.read_text():
            break
        time.sleep(0.002)
    child.kill()
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert json.loads((folder / jobs.RESULT).read_text())["sha256"] == whole
