"""The left-bias meter: a planted bias is found, whatever the answers are worth."""

from __future__ import annotations

import math
import random

import pytest

from plumbline.collect.quality import position
from plumbline.collect.quality.position import Sided


def sided(
    *, comparisons: int, people: int = 2, bias: dict[int, float], spread: float, seed: int
) -> list[Sided]:
    """Votes on random sides: each comparison's answers differ by a normal draw, `people` of those
    in `bias` vote on it, and each has a bias of their own to the left, in log-odds."""
    draw = random.Random(seed)
    votes = []
    for comparison in range(comparisons):
        gap = draw.gauss(0, spread)
        for rater in draw.sample(sorted(bias), people):
            first_left = draw.random() < 0.5
            odds = (gap if first_left else -gap) + bias[rater]
            left = draw.random() < 1 / (1 + math.exp(-odds))
            votes.append(Sided(comparison, rater, first_left, left))
    return votes


@pytest.mark.parametrize("planted", [0.0, 0.3, -0.6])
@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_a_planted_bias_is_recovered_within_a_twentieth(planted, spread):
    bias = dict.fromkeys(range(8), planted)
    votes = sided(comparisons=9000, people=3, bias=bias, spread=spread, seed=1)
    found = position.overall(votes)
    assert found.b == pytest.approx(planted, abs=0.05)
    assert found.low <= planted <= found.high
    assert found.spread == pytest.approx(spread, abs=0.1)
    assert found.alerts(0.2) == (abs(planted) > 0.2)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    bias = dict.fromkeys(range(5), 0.25)
    held = 0
    for seed in range(80):
        found = position.overall(sided(comparisons=250, bias=bias, spread=1.0, seed=seed))
        held += found.low <= 0.25 <= found.high
    assert 0.90 <= held / 80 <= 0.99


def test_one_biased_person_among_fair_ones_is_the_one_who_stands_out():
    bias = dict.fromkeys(range(10), 0.0) | {3: 0.8}
    votes = sided(comparisons=3000, people=3, bias=bias, spread=1.5, seed=4)
    everybody = position.overall(votes)
    found = position.by_rater(votes, everybody)
    assert [rater for rater, one in sorted(found.items()) if one.alerts(0.2)] == [3]
    assert found[3].low <= 0.8 <= found[3].high
    assert not everybody.alerts(0.2)
    assert sum(one.n for one in found.values()) == everybody.n == len(votes)


def test_without_a_shared_comparison_the_spread_is_unknown_and_b_errs_towards_zero():
    votes = sided(comparisons=4000, people=1, bias={0: 0.5, 1: 0.5}, spread=2.0, seed=5)
    found = position.overall(votes)
    assert found.spread is None
    assert 0.1 < found.b < 0.5


def test_always_left_has_a_large_but_finite_bias():
    votes = [Sided(n, 0, n % 2 == 0, True) for n in range(30)]
    found = position.overall(votes)
    assert 2 < found.b < 8
    assert found.alerts(0.2)
    assert found.share > 0.9


def test_nothing_is_said_without_a_preference():
    assert position.overall([]) is None


def test_mirrored_votes_have_the_mirrored_bias():
    bias = dict.fromkeys(range(4), 0.4)
    votes = sided(comparisons=500, bias=bias, spread=1.0, seed=6)
    mirror = [Sided(v.comparison, v.rater, not v.first_left, not v.left) for v in votes]
    renamed = [Sided(v.comparison, v.rater, not v.first_left, v.left) for v in votes]
    found = position.overall(votes)
    assert position.overall(mirror).b == pytest.approx(-found.b, abs=1e-3)
    assert position.overall(renamed).b == pytest.approx(found.b, abs=1e-3)
