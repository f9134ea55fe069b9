"""Numbers that are none stop a training within the step, and what was saved before stays good.

Every algorithm and every sort of reward model meets every fault. What is looked at are the raw
loss, gradient norm, weights, and what the model says: a mean over a log's window could hide them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from align import jobs
from align.gpu import checkpoint, reward, train
from tests.align.conftest import do, metrics, pairs, result, train_job
from tests.align.every_kind import (
    KINDS,
    STEPS,
    Rundir,
    before_step,
    data_of,
    job_of,
    spoil_batch,
    spoil_weight,
    spoilt,
    work_of,
)
from tests.align.test_reward import comparisons, reward_job

BAD_STEP = 3
BATCHES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def stopped(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a training that must end as a bad job; the one sentence that it leaves."""
    with pytest.raises(SystemExit) as stop:
        do(work_of(kind), folder)
    assert stop.value.code == 2, "retrying cannot help"
    assert not (folder / jobs.RESULT).exists()
    assert not (folder / jobs.WEIGHTS).exists()
    said = capsys.readouterr().err.strip()
    assert said.startswith("ValueError: the ")
    assert "\n" not in said
    return said


def steps_logged(folder: Path) -> int:
    return sum("learning_rate" in values for values in metrics(folder))


def last_good(folder: Path) -> dict[str, torch.Tensor]:
    """The newest checkpoint, verified; all that it holds is a number."""
    found = checkpoint.newest(folder / jobs.CHECKPOINTS, pytest.fail)
    assert found is not None
    path, manifest = found
    assert manifest.metadata["step"] == BAD_STEP - 1
    held = load_file(path / "state.safetensors")
    assert all(tensor.double().isfinite().all() for tensor in held.values())
    return held


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["nan", *(pytest.param(f, marks=pytest.mark.nightly)
                                            for f in ("inf", "-inf", "weight"))])  # fmt: skip
def test_it_stops_within_the_step_and_keeps_what_was_good(
    kind: str,
    fault: str,
    rundir: Rundir,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = rundir(job_of(kind, tiny_base), **data_of(kind))
    patch = monkeypatch.setattr
    planted = spoil_weight if fault == "weight" else spoil_batch(patch, BATCHES[fault])
    before_step(patch, BAD_STEP, planted)
    said = stopped(kind, folder, capsys)
    assert f"at step {BAD_STEP} of {STEPS}" in said
    assert "what was saved before it is kept" in said
    assert steps_logged(folder) == BAD_STEP - 1
    last_good(folder)


@pytest.mark.parametrize("fault", ["inf", "-inf", "weight"])
@pytest.mark.parametrize("kind", ["dpo", "kto", "reward-bradley_terry", "reward-mixture"])
def test_so_it_does_at_other_faults(
    kind: str,
    fault: str,
    rundir: Rundir,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The others are met by night."""
    test_it_stops_within_the_step_and_keeps_what_was_good(
        kind, fault, rundir, tiny_base, monkeypatch, capsys
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_learning_rate_past_all_measure_stops_the_first_step(
    kind: str, rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(kind, tiny_base, learning_rate=1e9, warmup_ratio=0.0)
    folder = rundir(job, **data_of(kind))
    said = stopped(kind, folder, capsys)
    assert f"at step 1 of {STEPS}" in said
    assert "A lower learning rate is the usual cure" in said
    assert not checkpoint.numbered(folder / jobs.CHECKPOINTS)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_no_length_and_identical_ones_harm_nothing(
    kind: str, rundir: Rundir, tiny_base: Path
) -> None:
    """What no algorithm can learn from is left out and counted; what is left trains as ever."""
    (name, rows), bad = next(iter(data_of(kind).items())), spoilt(kind)
    folder = rundir(job_of(kind, tiny_base), **{name: [*rows, *bad]})
    found = do(work_of(kind), folder)
    assert math.isfinite(found["loss" if name == "examples" else "train_log_loss"])
    # One text twice may be something to learn: that it is good, or a tie.
    assert found["dropped"] in (1, 2)
    assert found["steps"] == (STEPS if found["dropped"] == 2 else 6)


@pytest.mark.parametrize("kind", ["dpo", "kto", "reward-bradley_terry"])
def test_with_nothing_else_left_it_says_so(
    kind: str, rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (name, _), (empty, _) = next(iter(data_of(kind).items())), spoilt(kind)
    with pytest.raises(SystemExit) as stop:
        do(work_of(kind), rundir(job_of(kind, tiny_base), **{name: [empty]}))
    assert stop.value.code == 2
    assert "to train on (1 were left out)" in capsys.readouterr().err


def test_a_gradient_that_explodes_but_is_a_number_stops_too(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = rundir(job_of("dpo", tiny_base), **data_of("dpo"))

    def explode(loop: Any) -> None:
        for one in loop.parameters.values():
            one.register_hook(lambda gradient: gradient * 1e15)

    before_step(monkeypatch.setattr, BAD_STEP, explode)
    assert "the gradient norm became " in stopped("dpo", folder, capsys)
    last_good(folder)


def test_once_the_fault_is_gone_it_goes_on_to_the_undisturbed_weights(
    rundir: Rundir, tiny_base: Path, tmp_path: Path, capsys: Any
) -> None:
    for kind in ("dpo", "reward-bradley_terry"):
        folder = rundir(job_of(kind, tiny_base), kind, **data_of(kind))
        whole = do(work_of(kind), Path(shutil.copytree(folder, tmp_path / f"{kind}-whole")))
        with pytest.MonkeyPatch.context() as patched:
            before_step(patched.setattr, BAD_STEP, spoil_weight)
            stopped(kind, folder, capsys)
        assert do(work_of(kind), folder)["sha256"] == whole["sha256"]
        assert "resumed from step 2" in (folder / jobs.EVENTS).read_text()


@pytest.fixture
def broken_base(tiny_base: Path, tmp_path: Path) -> Path:
    """A base one of whose numbers is none, as a copy over a bad link would leave it."""
    folder = Path(shutil.copytree(tiny_base, tmp_path / "broken"))
    held = load_file(folder / "model.safetensors")
    held["model.layers.1.mlp.down_proj.weight"][0, 0] = math.nan
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_policy_whose_weights_are_spoilt_is_not_trained(
    rundir: Rundir, broken_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rundir(train_job(broken_base), examples=pairs())
    with pytest.raises(SystemExit) as stop:
        do(train.work, folder)
    assert stop.value.code == 2
    assert "its weights are spoilt" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["tuned", "probe"])
def test_nor_is_a_reward_model(
    form: Any, rundir: Rundir, broken_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = dataclasses.replace(reward_job(broken_base), form=form)
    folder = rundir(job, comparisons=comparisons(8))
    with pytest.raises(SystemExit) as stop:
        do(reward.work, folder)
    assert stop.value.code == 2
    assert "its weights are spoilt" in capsys.readouterr().err
    assert not (folder / jobs.WEIGHTS).exists()


def test_events_and_results_are_json_that_any_reader_takes(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = rundir(job_of("dpo", tiny_base), **data_of("dpo"))
    with monkeypatch.context() as patched:
        before_step(patched.setattr, BAD_STEP, spoil_batch(patched.setattr, math.nan))
        stopped("dpo", folder, capsys)
    do(train.work, folder)
    assert result(folder)["steps"] == STEPS
    for line in (folder / jobs.EVENTS).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
