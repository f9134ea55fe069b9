"""One live process per run directory, and an exit status that says whether to try again."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import jobs
from align.jobs import TrainJob
from align.run import Run, Stopped, main
from tests.align.conftest import do, forked, result, train_job

Rundir = Callable[..., Path]


@pytest.fixture
def folder(rundir: Rundir, tiny_base: Path) -> Path:
    return rundir(train_job(tiny_base))


def test_the_result_is_what_the_work_returned_and_where_it_ran(folder: Path) -> None:
    assert do(lambda run: {"kind": run.job.kind}, folder) == {"kind": "train"}
    assert result(folder)["ran"].keys() >= {"commit", "packages", "hardware"}


@pytest.mark.parametrize(
    ("error", "status"),
    [(Stopped(), 75), (ValueError("no"), 2), (KeyError("bug"), 1)],
    ids=["stopped on request", "bad job", "anything else"],
)
def test_the_exit_status_says_whether_to_try_again(
    folder: Path, error: Exception, status: int
) -> None:
    def work(run: Run) -> dict[str, Any]:
        raise error

    assert forked(lambda: main(work, [str(folder)])) == status
    assert not (folder / jobs.RESULT).exists()


def test_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="usage"):
        main(lambda run: {}, [str(tmp_path)])


def test_sigterm_is_noticed_between_units_of_work(folder: Path) -> None:
    def work(run: Run) -> dict[str, Any]:
        for _ in range(10):
            run.check()
            signal.raise_signal(signal.SIGTERM)
        return {}

    assert forked(lambda: main(work, [str(folder)])) == 75


def test_an_earlier_attempt_that_still_runs_is_killed_first(folder: Path) -> None:
    def zombie(run: Run) -> dict[str, Any]:
        (folder / "alive").touch()
        time.sleep(60)
        return {"by": "zombie"}

    statuses: list[int] = []
    first = threading.Thread(
        target=lambda: statuses.append(forked(lambda: main(zombie, [str(folder)])))
    )
    first.start()
    while not (folder / "alive").exists():
        time.sleep(0.01)
    assert forked(lambda: main(lambda run: {"by": "second"}, [str(folder)])) == 0
    first.join()
    assert statuses == [-signal.SIGKILL]
    assert json.loads((folder / jobs.RESULT).read_text())["by"] == "second"


def test_events_are_lines_that_name_their_type(folder: Path) -> None:
    def work(run: Run) -> dict[str, Any]:
        assert isinstance(run.job, TrainJob)
        run.metrics(1, {"loss": 0.5})
        run.progress(1, 4, "steps")
        run.log("half way")
        return {}

    do(work, folder)
    events = [json.loads(line) for line in (folder / jobs.EVENTS).read_text().splitlines()]
    assert [event.pop("elapsed") >= 0 for event in events] == [True] * 3
    assert events == [
        {"type": "metric", "step": 1, "values": {"loss": 0.5}},
        {"type": "progress", "done": 1, "total": 4, "unit": "steps"},
        {"type": "log", "message": "half way"},
    ]
    assert int((folder / jobs.LOCK).read_text()) == os.getpid()
