"""The bench of votes needed: what it counts, and when it says yes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.bench import labels
from tests.bench.selecting.learning import Learner, Plan
from tests.bench.selecting.pools import Pool
from tests.bench.selecting.shelf import Shelf

COUNTS = (10, 20, 30, 40)
THEIRS = [[0.5, 0.6, 0.65, 0.7], [0.5, 0.6, 0.75, 0.8]]  # random reaches 0.75 with 40 votes


def test_votes_are_counted_on_straight_lines_between_batches() -> None:
    assert labels.needed([0.5, 0.6, 0.7, 0.8], COUNTS, 0.65) == pytest.approx(25)
    assert labels.needed([0.5, 0.6, 0.7, 0.8], COUNTS, 0.4) == 10
    assert labels.needed([0.5, 0.6, 0.7, 0.8], COUNTS, 0.9) is None


def test_asking_at_random_needs_as_many_votes_as_asking_at_random() -> None:
    assert labels.ratio(THEIRS, THEIRS, COUNTS) == 1


def test_who_reaches_it_with_half_of_the_votes_has_a_ratio_of_a_half() -> None:
    ours = [[0.5, 0.75, 0.8, 0.8], [0.5, 0.75, 0.7, 0.7]]
    assert labels.ratio(ours, THEIRS, COUNTS) == pytest.approx(0.5)
    found = labels.figures(ours, THEIRS, COUNTS)
    assert found["low"] <= found["ratio"] == pytest.approx(0.5)
    assert found["high"] is None  # the second seed alone never reaches what random does
    assert labels.ratio([[0.5, 0.6, 0.6, 0.6]], THEIRS, COUNTS) is None


def test_the_goal_is_met_by_one_strategy_on_every_source() -> None:
    def rows(**ratios: tuple[float | None, float | None]):
        return [
            {"source": source, "strategy": name, "ratio": both[at]}
            for name, both in {"random": (1.0, 1.0), **ratios}.items()
            for at, source in enumerate("ab")
        ]

    assert labels.verdict(rows(design=(0.4, 0.5), mixed=(0.1, None)))["met"] == 1
    assert labels.verdict(rows(design=(0.4, 0.6), mixed=(0.6, 0.4)))["met"] == 0
    assert labels.verdict(rows(design=(0.4, 0.6), mixed=(0.7, 0.4)))["best"] == "design"


def test_an_interrupted_bench_goes_on_where_it_was_and_other_votes_are_another_curve(tmp_path):
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(40, 5, generator=draw, dtype=torch.float64)
    prompts = {k: [2 * k, 2 * k + 1] for k in range(20)}
    votes = {(i, j): float(features[i, 0] > features[j, 0]) for i, j in prompts.values()}
    heldout = [(i, j, p, str(i)) for (i, j), p in votes.items()]
    pool = Pool("small", features, [f"text {k}" for k in range(40)], prompts, votes, heldout)
    plan = Plan(first=4, batch=4, most=16)
    first = Shelf(tmp_path, Learner(pool, plan)).curve("uncertainty", 1)
    assert first == Learner(pool, plan).curve("uncertainty", 1)
    assert len(first) == len(plan.counts)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    assert Shelf(tmp_path, Learner(pool, plan)).curve("uncertainty", 1) == first
    assert kept.stat().st_mtime_ns == written
    turned = replace(pool, votes={pair: 1 - p for pair, p in votes.items()})
    assert Shelf(tmp_path, Learner(turned, plan)).curve("uncertainty", 1) != first
    assert len(list(tmp_path.iterdir())) == 2
