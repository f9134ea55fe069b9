"""A generative reward model as a judge: both orders, one pair at a time, whatever else is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import demo, jobs
from align.gpu import compare, reward
from align.gpu.compare import COMPARED, CompareJob
from align.jobs import ModelRef, Optimiser, RewardJob
from align.judge_jobs import VERDICTS
from tests.align.conftest import do
from tests.align.test_pairwise_generative import polite


@pytest.fixture
def trained(rundir: Callable[..., Path]) -> Path:
    """A committed model of a few steps: what it prefers does not matter here."""
    job = RewardJob(
        base=ModelRef(base=str(demo.BASE)),
        objective="pairwise_generative",
        optimiser=Optimiser(batch_size=8, micro_batch_size=8, max_length=256),
    )
    folder = rundir(job, "trained", comparisons=polite(16)[:20])
    do(reward.work, folder)
    return folder / jobs.WEIGHTS


def test_both_orders_turn_around_exactly_and_no_pair_depends_on_another(trained, rundir):
    rows = polite(4)[:4]
    pairs = [
        {"id": f"{row['id']}{turned}", "messages": row["messages"], "first": a, "second": b}
        for row in rows
        for texts in [[one["text"] for one in row["responses"]]]
        for turned, (a, b) in enumerate((texts, texts[::-1]))
    ]
    pairs.append({**pairs[0], "id": "long", "first": "word " * 400})
    spec = CompareJob(reward_model=str(trained), max_length=256)

    def verdicts(some: list[dict[str, Any]], name: str) -> dict[str, Any]:
        folder = rundir(spec, name, pairs=some)
        do(compare.work, folder)
        assert (folder / COMPARED).is_file()
        return {row["id"]: row for row in jobs.read_rows(folder / VERDICTS)}

    found = verdicts(pairs, "all")
    for row in rows:
        one, turned = found[f"{row['id']}0"], found[f"{row['id']}1"]
        assert one["q_first"] == pytest.approx(turned["q_second"], abs=1e-6)
        assert one["q_second"] == pytest.approx(turned["q_first"], abs=1e-6)
    assert (found["long"]["q_first"], "do not fit" in found["long"]["error"]) == (None, True)
    alone = verdicts(pairs[:1], "one")
    assert alone[pairs[0]["id"]] == found[pairs[0]["id"]]
