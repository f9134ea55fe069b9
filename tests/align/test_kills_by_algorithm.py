"""Killed at any step, a training of any kind ends with the weights of one that never was.

By night every algorithm and every sort of reward model is killed at 20 steps drawn anew; always a
few of them, at one step each. Children are forks of this process, so that a kill costs a training
and no start of Python. What CUDA does to bits is for a machine that has it.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import jobs
from align.gpu import checkpoint
from tests.align.conftest import do, forked
from tests.align.every_kind import KINDS, data_of, dying_at, job_of, work_of

SEED = random.randrange(10**6)  # shown when a test fails
OFTEN = ("dno", "kto", "reward-bradley_terry")  # that differ most in what a step needs
KILLS = 20
STEPS = 12
# Sizes of these, not of steps: two epochs more, and a checkpoint every second step.
LONGER = {"epochs": 6, "checkpoint_every": 2}


@pytest.fixture
def kind_of_run(
    rundir: Callable[..., Path], tiny_base: Path, tmp_path: Path
) -> Callable[[str], tuple[str, Callable[[str], Path]]]:
    """Of a kind: the hash of its weights when nothing happens, and run directories of it."""

    def make(kind: str) -> tuple[str, Callable[[str], Path]]:
        rundir(job_of(kind, tiny_base, **LONGER), f"{kind}-template", **data_of(kind))

        def fresh(name: str) -> Path:
            return Path(shutil.copytree(tmp_path / f"{kind}-template", tmp_path / f"{kind}-{name}"))

        whole: dict[str, Any] = do(work_of(kind), fresh("whole"))
        assert whole["steps"] == STEPS
        return whole["sha256"], fresh

    return make


def killed_at(kind: str, folder: Path, step: int) -> None:
    def action() -> None:
        dying_at(step)
        do(work_of(kind), folder)

    assert forked(action) == -signal.SIGKILL, "it ended before it could be killed"
    assert not (folder / jobs.RESULT).exists()


@pytest.mark.parametrize("kind", OFTEN)
def test_killed_at_a_random_step_it_ends_with_the_same_weights(
    kind: str, kind_of_run: Callable[[str], tuple[str, Callable[[str], Path]]]
) -> None:
    whole, fresh = kind_of_run(kind)
    step = random.Random(f"{SEED}{kind}").randint(1, STEPS)
    folder = fresh("killed")
    killed_at(kind, folder, step)
    assert do(work_of(kind), folder)["sha256"] == whole, f"killed at step {step}, seed {SEED}"


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_many_steps_and_in_every_attempt_it_still_does(
    kind: str, kind_of_run: Callable[[str], tuple[str, Callable[[str], Path]]]
) -> None:
    whole, fresh = kind_of_run(kind)
    draw = random.Random(f"{SEED}{kind}")
    for number in range(KILLS):
        step = draw.randint(1, STEPS)
        folder = fresh(str(number))
        killed_at(kind, folder, step)
        if number % 4 == 0:  # and once more on the way
            newest = checkpoint.newest(folder / jobs.CHECKPOINTS, pytest.fail)
            begun = newest[1].metadata["step"] if newest else 0
            killed_at(kind, folder, draw.randint(begun + 1, STEPS))
        found = do(work_of(kind), folder)["sha256"]
        assert found == whole, f"kill {number} at step {step}, seed {SEED}"
        shutil.rmtree(folder)
