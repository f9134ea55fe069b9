"""Reward models learn what people prefer, and are measured on comparisons they never saw."""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align.gpu import checkpoint, data, reward
from align.gpu.comparisons import agreement
from align.gpu.reward import work
from align.jobs import ModelRef, Optimiser, RewardJob, Weights
from align.objective import Preferences, Said
from align.objectives.bradley_terry import BradleyTerry
from align.run import Run
from tests.align.conftest import do, forked, metrics, response

Rundir = Callable[..., Path]


def comparison(name: str, texts: list[str], heldout: bool = False) -> dict[str, Any]:
    """Answers that start with "good" beat the others; two of a kind tie."""
    good = [text.startswith("good") for text in texts]
    count = len(texts)
    return {
        "id": name,
        "messages": [{"role": "user", "content": f"question {name}"}],
        "responses": [response(text, id=str(k)) for k, text in enumerate(texts)],
        "preferences": [
            (i, j, 0.5 + 0.5 * (good[i] - good[j]), 1.0) for i in range(count) for j in range(i)
        ],
        "heldout": heldout,
    }


def comparisons(count: int = 48, heldout: int = 4) -> list[dict[str, Any]]:
    """Every `heldout`-th one is held out; lengths and endings carry no information."""
    rng = random.Random(0)

    def text() -> str:
        start = rng.choice(["good", "yuck"])
        return start + "".join(rng.choice("abcdef") for _ in range(rng.randint(1, 8)))

    return [
        comparison(str(n), [text() for _ in range(3)], bool(heldout) and n % heldout == 0)
        for n in range(count)
    ]


def reward_job(base: Path, mode: Any = "lora", **settings: Any) -> RewardJob:
    defaults = {
        "learning_rate": 1e-2 if mode == "lora" else 3e-3,
        "epochs": 5,
        "batch_size": 8,
        "micro_batch_size": 4,
        "checkpoint_every": 3,
    }
    return RewardJob(
        base=ModelRef(base=str(base)),
        weights=Weights(mode=mode, rank=4, alpha=8),
        optimiser=Optimiser(**{**defaults, **settings}),
    )


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_planted_preference_is_found_on_held_out_comparisons(
    rundir: Rundir, tiny_base: Path, mode: str
) -> None:
    folder = rundir(reward_job(tiny_base, mode), comparisons=comparisons())
    found = do(work, folder)
    assert found["accuracy"] > 0.95
    assert found["log_loss"] < 0.5
    assert (found["heldout"], found["trained_on"]) == (36, 108)
    checkpoint.verify(folder / found["weights"], found["sha256"])
    model = reward.load(folder / found["weights"])
    assert not model.policy.parameters()
    encoder = data.Encoder(model.policy.tokenizer)
    asks = [{"role": "user", "content": "another question"}]
    rows = encoder.example(asks, [response("goodbcd"), response("yuckbcd")], 100)
    assert rows is not None
    with torch.no_grad():
        good, bad = model.scores(rows).tolist()
    assert good > bad + 1


def test_training_and_held_out_figures_stand_side_by_side(rundir: Rundir, tiny_base: Path) -> None:
    folder = rundir(reward_job(tiny_base, epochs=2), comparisons=comparisons())
    found = do(work, folder)
    before, *epochs = [values for values in metrics(folder) if "epoch" in values]
    measured = {f"heldout/{name}" for name in ("accuracy", "log_loss", "margin")}
    assert before.keys() == {"epoch", *measured}
    assert before["epoch"] == 0
    assert before["heldout/log_loss"] > epochs[-1]["heldout/log_loss"]
    assert [values["epoch"] for values in epochs] == [1, 2]
    names = {f"{part}/{name}" for part in ("train", "heldout") for name in ("accuracy", "log_loss")}
    assert all(names <= values.keys() for values in epochs)
    assert epochs[-1]["heldout/accuracy"] == found["accuracy"]
    assert epochs[-1]["train/accuracy"] == found["train_accuracy"]


def test_held_out_comparisons_are_never_trained_on(rundir: Rundir, tiny_base: Path) -> None:
    """Turning every held-out preference around changes the measure and no weight."""
    rows = comparisons(16)
    turned = [
        {**row, "preferences": [(i, j, 1 - p, w) for i, j, p, w in row["preferences"]]}
        if row["heldout"]
        else row
        for row in rows
    ]
    one, two = (rundir(reward_job(tiny_base, epochs=2), name, comparisons=data)
                for name, data in (("one", rows), ("two", turned)))  # fmt: skip
    mine, theirs = do(work, one), do(work, two)
    assert mine["accuracy"] == pytest.approx(1 - theirs["accuracy"])
    for name in (reward.HEAD, "adapter_model.safetensors"):
        assert (one / "weights" / name).read_bytes() == (two / "weights" / name).read_bytes()


def test_with_nothing_held_out_there_is_no_accuracy(rundir: Rundir, tiny_base: Path) -> None:
    job = reward_job(tiny_base, epochs=1)
    found = do(work, rundir(job, comparisons=comparisons(8, heldout=0)))
    assert found["accuracy"] is found["log_loss"] is None
    assert found["heldout"] == 0


def test_each_answer_is_forwarded_once_per_comparison(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    real = reward.RewardModel.values

    def counted(self: reward.RewardModel, batch: list[data.Exchange]) -> torch.Tensor:
        widths.append(len(batch))
        return real(self, batch)

    monkeypatch.setattr(reward.RewardModel, "values", counted)
    do(work, rundir(reward_job(tiny_base, epochs=1), comparisons=comparisons(8, heldout=0)))
    assert sum(widths) == 8 * 3


def test_killed_at_any_step_it_ends_with_the_same_weights(
    rundir: Rundir, tiny_base: Path, tmp_path: Path
) -> None:
    rundir(reward_job(tiny_base, epochs=2), "template", comparisons=comparisons(16))
    whole = do(work, Path(shutil.copytree(tmp_path / "template", tmp_path / "whole")))
    for step in (1, 2, 3, 4):
        folder = Path(shutil.copytree(tmp_path / "template", tmp_path / f"step-{step}"))

        def crash(folder: Path = folder, step: int = step) -> None:
            real = Run.metrics

            def stop(self: Run, at: int, values: dict[str, float]) -> None:
                if at == step:
                    signal.raise_signal(signal.SIGKILL)
                real(self, at, values)

            Run.metrics = stop  # type: ignore[assignment,method-assign]
            do(work, folder)

        assert forked(crash) == -signal.SIGKILL
        found = do(work, folder)
        for name in ("sha256", "accuracy", "log_loss", "train_accuracy"):
            assert found[name] == whole[name], f"{name} after a kill at step {step}"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "no comparisons to train on"),
        ([comparison("1", ["good", "bad"], heldout=True)], "no comparisons to train on"),
        ([{**comparison("7", ["a", "b"]), "preferences": [(0, 2, 1.0, 1.0)]}], "between 0 and 2"),
        ([{**comparison("7", ["a", "b"]), "preferences": [(0, 0, 1.0, 1.0)]}], "between 0 and 0"),
        ([{**comparison("7", ["a", "b"]), "preferences": [(0, 1, 1.5, 1.0)]}], "p = 1.5"),
        ([{**comparison("7", ["a", "b"]), "preferences": [(0, 1, 1.0, -1.0)]}], "weight -1.0"),
    ],
)
def test_bad_data_gets_a_sentence(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str], rows: Any, sentence: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        do(work, rundir(reward_job(tiny_base), comparisons=rows))
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_an_unknown_objective_is_named(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = dataclasses.replace(reward_job(tiny_base), objective="magic")
    with pytest.raises(SystemExit):
        do(work, rundir(job, comparisons=comparisons(4)))
    assert "no objective 'magic'" in capsys.readouterr().err


def test_a_policy_is_not_a_reward_model(adapter: Path) -> None:
    with pytest.raises(ValueError, match="it is not a reward model"):
        reward.load(adapter)


def preferences(*rows: tuple[int, int, float, float]) -> Preferences:
    i, j, p, weight = zip(*rows, strict=True)
    return Preferences(*(torch.tensor(part) for part in (i, j, p, weight)))


def test_ties_do_not_count_for_accuracy_and_equal_scores_are_half_right() -> None:
    scores = torch.tensor([2.0, 1.0, 1.0])
    found = agreement(scores, preferences((0, 1, 1.0, 1.0), (0, 2, 0.5, 5.0), (1, 2, 0.9, 3.0)))
    assert found["accuracy"] == (1.0 + 3.0 * 0.5, 4.0)
    assert found["log_loss"][1] == 9.0


def test_bradley_terry_by_hand() -> None:
    scores = torch.tensor([[1.0], [-0.5]], dtype=torch.float64, requires_grad=True)
    made = Said(
        Preferences(
            torch.tensor([0]),
            torch.tensor([1]),
            torch.tensor([0.75], dtype=torch.float64),
            torch.tensor([1.0], dtype=torch.float64),
        )
    )
    sure, unsure = math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(1.5))
    plain = BradleyTerry(centring=0.0).loss(scores, made)
    assert plain.item() == pytest.approx(0.75 * sure + 0.25 * unsure)
    centred = BradleyTerry(centring=0.01).loss(scores, made)
    assert centred.item() == pytest.approx(plain.item() + 0.01 * 0.25)
    plain.sum().backward()
    assert scores.grad is not None
    assert scores.grad[0, 0].item() == pytest.approx(1 / (1 + math.exp(-1.5)) - 0.75)
