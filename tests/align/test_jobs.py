"""The seam: a job survives JSON, and one that this version does not understand is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import jobs
from align.gpu import train
from align.jobs import ModelRef, Optimiser, RewardJob, SampleJob, ScoreJob, TrainJob, Weights
from align.run import main

REF = ModelRef(base="/models/base", adapter="/policies/7")
JOBS: list[jobs.Job] = [
    SampleJob(engine_url="http://127.0.0.1:1", model="m", n=2),
    ScoreJob(reward_model="/rm", policies={"policy": REF, "initial": ModelRef(base="/b")}),
    RewardJob(base=REF, optimiser=Optimiser(seed=3)),
    TrainJob(algorithm="dpo", start=REF, references={"reference": REF}, knobs={"beta": 0.2},
             weights=Weights(mode="full")),
]  # fmt: skip


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_survives_json(job: jobs.Job, tmp_path: Path) -> None:
    jobs.write_json(tmp_path / jobs.JOB, jobs.to_json(job))
    assert jobs.read_job(tmp_path) == job


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temprature": 1}, "train job has unknown fields: temprature"),
        ({"kind": "dance"}, "unknown job kind 'dance'"),
        ({"schema": 99}, "job schema 99 is not"),
    ],
)
def test_what_this_version_does_not_know_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        jobs.from_json({**jobs.to_json(JOBS[3]), **change})


def test_a_program_given_a_job_it_does_not_know_exits_as_not_worth_retrying(
    rundir: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rundir(JOBS[3])
    jobs.write_json(folder / jobs.JOB, {**jobs.to_json(JOBS[3]), "extra": 1})
    with pytest.raises(SystemExit) as stop:
        main(train.work, [str(folder)])
    assert stop.value.code == 2
    assert "unknown fields: extra" in capsys.readouterr().err


def test_a_program_refuses_a_job_of_another_kind(
    rundir: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(train.work, [str(rundir(JOBS[1]))])
    assert stop.value.code == 2
    assert "runs train jobs, not score jobs" in capsys.readouterr().err


def test_rows_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    jobs.write_rows(path, [{"a": "é\u2028"}, {"b": 2}])
    assert list(jobs.read_rows(path)) == [{"a": "é\u2028"}, {"b": 2}]

    def broken() -> Any:
        yield {"a": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        jobs.write_rows(path, broken())
    assert len(list(jobs.read_rows(path))) == 2
