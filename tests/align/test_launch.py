"""A job of several processes, by torchrun's own agent: as the fleet starts it, and by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from align import jobs
from align.gpu import checkpoint, launch, train
from align.gpu.ranks import LOST
from tests.align.conftest import do, metrics, pairs, train_job
from tests.align.test_ranks import RATE, same, twin
from tests.ports import free_port

Rundir = Callable[..., Path]
LAUNCH = [sys.executable, "-m", jobs.LAUNCHER, "2", "align.gpu.train"]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    with (folder / jobs.STDERR).open("ab") as out:
        return subprocess.Popen([*command, str(folder)], env=ALONE, stdout=out, stderr=out)


def ranks_of(launched: subprocess.Popen[bytes], count: int) -> list[psutil.Process]:
    """The processes that train, in order of rank."""
    found = [
        one
        for one in psutil.Process(launched.pid).children(recursive=True)
        if "align.gpu.train" in one.cmdline()
    ]
    assert len(found) == count
    return sorted(found, key=lambda one: int(one.environ()["RANK"]))


def until_step(folder: Path, launched: subprocess.Popen[bytes], step: int) -> None:
    deadline = time.monotonic() + 200
    events = folder / jobs.EVENTS
    while not (events.exists() and len(metrics(folder)) >= step):
        assert launched.poll() is None, (folder / jobs.STDERR).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(processes: list[psutil.Process], seconds: float = 20) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.fixture
def folder(rundir: Rundir, tiny_base: Path) -> Path:
    """A job long enough to be killed in the middle."""
    job = train_job(tiny_base, batch_size=2, learning_rate=RATE, epochs=12, checkpoint_every=5)
    return rundir(job, examples=pairs(40))


@pytest.mark.timeout(600)
def test_a_killed_rank_ends_the_job_and_the_next_attempt_goes_on_from_its_checkpoint(
    folder: Path,
) -> None:
    whole = twin(folder)
    do(train.work, whole)
    launched = start(folder, *LAUNCH)
    until_step(folder, launched, 7)
    ranks = ranks_of(launched, 2)
    victim = ranks[1].pid
    ranks[1].kill()
    assert launched.wait(timeout=60) == 1
    assert gone(ranks)
    last = (folder / jobs.STDERR).read_text().splitlines()[-1]
    assert last == f"Rank 1 of 2 (process {victim}) was ended by SIGKILL."
    assert not (folder / jobs.WEIGHTS).exists()
    assert start(folder, *LAUNCH).wait(timeout=300) == 0, (folder / jobs.STDERR).read_text()
    assert "resumed from step" in (folder / jobs.EVENTS).read_text()
    weights = [checkpoint.verify(one / jobs.WEIGHTS) for one in (whole, folder)]
    assert weights[0].files.keys() == weights[1].files.keys()
    assert metrics(whole)[-1] == pytest.approx(metrics(folder)[-1], rel=1e-3, abs=1e-4)


@pytest.mark.timeout(600)
def test_told_to_stop_all_ranks_save_one_state_and_leave(folder: Path) -> None:
    launched = start(folder, *LAUNCH)
    until_step(folder, launched, 3)
    ranks = ranks_of(launched, 2)
    launched.send_signal(signal.SIGTERM)
    assert launched.wait(timeout=60) == 75
    assert gone(ranks)
    newest = checkpoint.newest(folder / jobs.CHECKPOINTS, pytest.fail)
    assert newest is not None
    assert len(list(newest[0].glob("state-*-of-00002.safetensors"))) == 2


@pytest.mark.timeout(600)
def test_ranks_do_not_outlive_the_one_that_launched_them(folder: Path) -> None:
    launched = start(folder, *LAUNCH)
    until_step(folder, launched, 1)
    ranks = ranks_of(launched, 2)
    launched.kill()
    launched.wait()
    assert gone(ranks, seconds=5)


@pytest.mark.timeout(600)
def test_a_bad_job_is_told_once_and_has_the_status_that_nobody_tries_again(
    rundir: Rundir, tiny_base: Path
) -> None:
    folder = rundir(train_job(tiny_base), examples=[])
    assert start(folder, *LAUNCH).wait(timeout=200) == 2
    said = (folder / jobs.STDERR).read_text()
    assert said.splitlines()[-1] == (
        "ValueError: there are no examples to train on (0 were left out)"
    )
    assert said.count("there are no examples") == 1


@pytest.mark.timeout(600)
def test_two_agents_of_torchrun_train_together_as_two_hosts_would(
    rundir: Rundir, tiny_base: Path
) -> None:
    alone = rundir(
        train_job(tiny_base, batch_size=5, learning_rate=RATE), "run", examples=pairs(13)
    )
    both = twin(alone)
    do(train.work, alone)
    port = free_port()
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "job"),
        *("--local-addr", "127.0.0.1", "-m", "align.gpu.train"),
    ]
    agents = [start(both, *command) for _ in range(2)]
    assert [agent.wait(timeout=300) for agent in agents] == [0, 0], (both / jobs.STDERR).read_text()
    assert json.loads((both / jobs.RESULT).read_text())["steps"] == 9
    (both / jobs.STDERR).unlink()
    same(alone, both)


@pytest.mark.parametrize(
    ("ended", "status", "said"),
    [
        ([LOST, -9], 1, "Rank 1 of 2 (process 101) was ended by SIGKILL."),
        ([-6, -9], 1, "Rank 1 of 2 (process 101) was ended by SIGKILL."),
        ([75, -9], 1, "Rank 1 of 2 (process 101) was ended by SIGKILL."),
        ([-11, -15], 1, "Rank 0 of 2 (process 100) was ended by SIGSEGV."),
        ([LOST, 1], 1, "Rank 1 of 2 (process 101) ended with exit status 1."),
        ([LOST, -15], 1, "Rank 0 of 2 (process 100) waited for another one in vain."),
        ([LOST, 2], 2, "Rank 1 of 2 (process 101) ended with exit status 2."),
        ([2, 2], 2, ""),
        ([75, 75], 75, ""),
        ([75, -15], 75, ""),
    ],
)
def test_the_blame_is_with_the_rank_that_fell_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended: list[int], status: int, said: str
) -> None:
    failures = [
        (rank, ProcessFailure(rank, 100 + rank, code, "no such file"))
        for rank, code in enumerate(ended)
    ]
    for order in (failures, failures[::-1]):
        assert launch.explain(order, 2, tmp_path) == status
        assert capsys.readouterr().err.strip() == said


def test_what_a_failed_rank_wrote_is_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "attempt_0" / "1"
    logs.mkdir(parents=True)
    (logs / "stderr.log").write_text("a traceback\nits last line\n")
    failed = [(0, ProcessFailure(0, 100, LOST, "-")), (1, ProcessFailure(1, 101, 1, "-"))]
    assert launch.explain(failed, 2, tmp_path) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "its last line",
        "Rank 1 of 2 (process 101) ended with exit status 1.",
    ]
