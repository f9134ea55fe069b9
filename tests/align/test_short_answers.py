"""Answers that are empty or of one token, as policies that collapse write them: what is trained on
them and what scores them stays finite, and nobody wins by saying nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from align.gpu.reward import work as train_reward
from align.gpu.score import work as score
from align.gpu.train import work as train
from align.jobs import ModelRef, ScoreJob
from tests.align.conftest import do, metrics, pair, response, train_job
from tests.align.test_reward import comparison, reward_job

Rundir = Callable[..., Path]
SHORT = ("", "a", " ", ":")  # of no token and of one


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from numbers(one)


def finite(value: Any) -> bool:
    found = list(numbers(value))
    return bool(found) and all(math.isfinite(one) for one in found)


@pytest.fixture(scope="module")
def judged() -> list[dict[str, Any]]:
    """Good answers beat all others; half of the others say nothing or next to nothing."""
    rows = []
    for n in range(32):
        texts = [f"good {n}", SHORT[n % 4], "yuck" if n % 2 else SHORT[(n + 1) % 4]]
        rows.append(comparison(str(n), texts, heldout=n % 4 == 0))
    return rows


def test_a_reward_model_is_trained_and_measured_on_them(rundir, tiny_base, judged):
    folder = rundir(reward_job(tiny_base), comparisons=judged)
    found = do(train_reward, folder)
    assert finite(found)
    assert found["accuracy"] > 0.9
    assert all(finite(row) for row in metrics(folder))


def test_it_scores_them_and_they_never_win(rundir, tiny_base, judged):
    folder = rundir(reward_job(tiny_base), comparisons=judged)
    do(train_reward, folder)
    asked = [
        {
            "id": f"{n}-{k}",
            "messages": [{"role": "user", "content": f"question {n}"}],
            "response": response(text),
        }
        for n in range(4)
        for k, text in enumerate(("good answer", *SHORT))
    ]
    policies = {"policy": ModelRef(base=str(tiny_base))}
    job = ScoreJob(reward_model=str(folder / "weights"), policies=policies, batch_size=3)
    there = rundir(job, name="scores", items=asked)
    assert do(score, there)["scored"] == len(asked)
    rows = {row["id"]: row for row in map(json.loads, (there / "scores.jsonl").open())}
    assert set(rows) == {one["id"] for one in asked}
    assert all(finite(row) for row in rows.values())
    for n in range(4):
        best = max(range(5), key=lambda k: rows[f"{n}-{k}"]["reward"])
        assert best == 0, n


@pytest.mark.parametrize("rejected", SHORT)
def test_a_policy_is_trained_on_pairs_with_them(rundir, tiny_base, rejected):
    rows = [pair(f"q{n}", "good", rejected) for n in range(6)]
    folder = rundir(train_job(tiny_base), examples=rows)
    assert finite(do(train, folder))
    assert all(finite(row) for row in metrics(folder))
