"""How sure a reward model may be is found on votes that copies of it did not learn from."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from align import jobs
from align.gpu import crossfit
from align.gpu.comparisons import Comparison
from align.gpu.data import Exchange
from align.gpu.reward import work
from align.jobs import RewardJob
from align.labels import Labels
from align.measure import pairs
from align.measure.pairs import Belief, Pair
from align.run import Run
from tests.align.conftest import do, forked, metrics
from tests.align.test_reward import comparisons, reward_job

Rundir = Callable[..., Path]


def folded(base: Path, **settings: Any) -> RewardJob:
    return replace(reward_job(base, **settings), folds=3)


def noisy(share: float, count: int = 36) -> list[dict[str, Any]]:
    """Comparisons of which a share is voted upside down."""
    rng = random.Random(1)
    rows = comparisons(count, heldout=0)
    for row in rows:
        if rng.random() < share:
            row["preferences"] = [(i, j, 1 - p, w) for i, j, p, w in row["preferences"]]
    return rows


def unseen(folder: Path) -> list[dict[str, Any]]:
    return list(jobs.read_rows(folder / crossfit.UNSEEN))


def test_a_model_that_learned_noise_by_heart_is_told_to_be_less_sure(
    rundir: Rundir, tiny_base: Path
) -> None:
    plain = do(work, rundir(folded(tiny_base), "plain", comparisons=noisy(0.0)))
    folder = rundir(folded(tiny_base, epochs=12), "noise", comparisons=noisy(0.35))
    found = do(work, folder)
    assert found["temperature"] > 1.5
    assert found["temperature"] > 1.5 * plain["temperature"]
    assert found["train_log_loss"] < found["folds_log_loss"]
    rows = unseen(folder)
    assert sum(row["weight"] for row in rows) == found["trained_on"] == 108  # each vote once
    kept = [Pair(**row) for row in rows]
    assert found["temperature"] == pairs.shrunk_temperature(kept)
    assert not (folder / crossfit.FOLDER).exists()


def test_what_a_fold_says_of_votes_does_not_depend_on_them(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turning one comparison's votes around changes other folds' margins and none of its own
    fold's."""
    deals: list[list[list[str]]] = []
    real = crossfit.deal

    def told(trained: Any, folds: int) -> list[list[Comparison]]:
        found = real(trained, folds)
        deals.append([[one.id for one in part] for part in found])
        return found

    monkeypatch.setattr(crossfit, "deal", told)
    rows = comparisons(12, heldout=0)
    turned = next(row for row in rows if any(p != 0.5 for _, _, p, _ in row["preferences"]))
    others = [
        {**row, "preferences": [(i, j, 1 - p, w) for i, j, p, w in row["preferences"]]}
        if row is turned
        else row
        for row in rows
    ]
    margins = []
    for name, some in (("one", rows), ("two", others)):
        folder = rundir(folded(tiny_base, epochs=2), name, comparisons=some)
        work(Run(folder))
        margins.append([row["margin"] for row in unseen(folder)])
    assert deals[0] == deals[1]
    names = [name for part in deals[0] for name in part for _ in range(3)]
    mine = next(part for part in deals[0] if turned["id"] in part)
    for name, before, after in zip(names, *margins, strict=True):
        assert (before == after) == (name in mine)


def test_the_model_itself_is_the_same_with_folds_and_without(
    rundir: Rundir, tiny_base: Path
) -> None:
    job = folded(tiny_base, epochs=2)
    with_folds = rundir(job, "with", comparisons=comparisons(12))
    without = rundir(replace(job, folds=0), "without", comparisons=comparisons(12))
    assert "temperature" in do(work, with_folds)
    assert "temperature" not in do(work, without)
    name = "weights/adapter_model.safetensors"
    assert (with_folds / name).read_bytes() == (without / name).read_bytes()


def test_members_on_one_backbone_are_read_as_one_before_their_temperature_is_found(
    rundir: Rundir, tiny_base: Path
) -> None:
    job = folded(tiny_base, epochs=2)
    job = replace(job, ensemble=replace(job.ensemble, members=3, reading="worst"))
    folder = rundir(job, comparisons=comparisons(16))
    found = do(work, folder)
    assert found["temperature"] == pairs.shrunk_temperature([Pair(**row) for row in unseen(folder)])


def test_votes_that_were_turned_around_for_training_are_measured_as_they_were_cast(
    rundir: Rundir, tiny_base: Path
) -> None:
    rows = noisy(0.2)
    job = replace(folded(tiny_base, epochs=1), labels=Labels(flip=0.3, cap=1.0))
    for name, form in (("tuned", "tuned"), ("probe", "probe")):
        folder = rundir(replace(job, form=form), name, comparisons=rows)
        found = do(work, folder)
        assert found["labels"]["changed"]
        assert found["folds_accuracy"] < 0.9  # a fifth of the votes is wrong, and stays so
    cast = sorted(p for row in rows for _, _, p, _ in row["preferences"])
    assert sorted(row["p"] for row in unseen(folder.parent / "tuned")) == cast


def test_killed_in_a_fold_it_goes_on_and_finds_the_same_temperature(
    rundir: Rundir, tiny_base: Path, tmp_path: Path
) -> None:
    rundir(folded(tiny_base, epochs=2), "template", comparisons=comparisons(16))
    whole = do(work, Path(shutil.copytree(tmp_path / "template", tmp_path / "whole")))
    folder = Path(shutil.copytree(tmp_path / "template", tmp_path / "killed"))

    def crash() -> None:
        real = Run.metrics

        def stop(self: Run, at: int, values: dict[str, float]) -> None:
            if "fold 1/loss" in values:
                signal.raise_signal(signal.SIGKILL)
            real(self, at, values)

        Run.metrics = stop  # type: ignore[assignment,method-assign]
        do(work, folder)

    assert forked(crash) == -signal.SIGKILL
    found = do(work, folder)
    for name in ("sha256", "temperature", "temperature_doubt", "folds_log_loss"):
        assert found[name] == whole[name]
    assert any("fold 2/loss" in values for values in metrics(folder))


def test_prompts_are_dealt_whole_into_parts_of_about_equal_size() -> None:
    some = [Comparison([Exchange((k // 2,), (1,))], [], id=str(k)) for k in range(20)]
    parts = crossfit.deal(some, 3)
    assert sorted(len(part) for part in parts) == [6, 6, 8]
    for k in range(0, 20, 2):
        (home,) = [part for part in parts if some[k] in part]
        assert some[k + 1] in home
    assert [len(part) for part in crossfit.deal(some[:2], 3)] == [2]


def test_where_all_votes_are_on_one_prompt_nothing_is_said_of_the_temperature(
    rundir: Rundir, tiny_base: Path
) -> None:
    found = do(work, rundir(folded(tiny_base), comparisons=comparisons(1, heldout=0)))
    assert "temperature" not in found
    assert Belief.of(found) == Belief()
