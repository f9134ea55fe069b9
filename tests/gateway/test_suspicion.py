"""How sure a guard is: the tests themselves, and that looking often cries wolf no more often."""

from __future__ import annotations

import random

import pytest

from plumbline.gateway import suspicion

LOOKS, LEAST, RUNS = 20, 100, 400


def test_fishers_tail_is_the_hypergeometric_one():
    # 3 of 4 against 1 of 4: (C(4,3) C(4,1) + C(4,4) C(4,0)) / C(8,4) = 17/70.
    assert suspicion.more_often(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert suspicion.more_often(0, 4, 4, 4) == 1.0
    assert suspicion.more_often(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert suspicion.more_often(5, 0, 1, 4) == 1.0, "nothing was seen"


def test_ranks_agree_with_a_worked_example():
    # U = 50 of 100, no ties: z = -0.5 / sqrt(175) = -0.0378, P = 0.515.
    now, before = [1, 4, 5, 8, 9, 12, 13, 16, 17, 20], [2, 3, 6, 7, 10, 11, 14, 15, 18, 19]
    assert suspicion.larger(now, before) == pytest.approx(0.515, abs=1e-3)
    assert suspicion.larger([5.0] * 10, [5.0] * 10) == 1.0, "all ties"
    assert suspicion.larger([1, 2], [3, 4]) == 1.0, "too few to say"
    assert suspicion.larger(range(10, 20), range(10)) < 1e-3
    assert suspicion.different(range(10), range(10, 20)) < 2e-3


def test_levels_of_all_looks_and_guards_sum_to_the_alarm_rate():
    spent = sum(suspicion.level(k, 3, 0.05) for k in range(1, 10_000)) * 3
    assert 0.0499 < spent < 0.05


def alarms(draw, test, level, known: int = 10 * LEAST) -> float:
    """The share of healthy runs with an alarm at any look; both sides are drawn alike, `known`
    times before the move."""
    hit = 0
    for run in range(RUNS):
        rng = random.Random(run)
        before = [draw(rng) for _ in range(known)]
        now: list[float] = []
        for look in range(1, LOOKS + 1):
            now += [draw(rng) for _ in range(LEAST)]
            if test(now, before) <= level(look):
                hit += 1
                break
    return hit / RUNS


def shares(now, before) -> float:
    return suspicion.more_often(int(sum(now)), len(now), int(sum(before)), len(before))


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_healthy_traffic_seldom_raises_an_alarm_however_often_it_is_looked_at(rate):
    def draw(rng):
        return float(rng.random() < rate)

    assert alarms(draw, shares, lambda look: suspicion.level(look, 1, 0.05)) <= 0.05


def test_the_same_looks_without_the_correction_would_cry_wolf():
    def draw(rng):
        return float(rng.random() < 0.3)

    assert alarms(draw, shares, lambda _: 0.05) > 0.08


def test_ranks_of_skewed_latencies_hold_the_same_promise(monkeypatch):
    monkeypatch.setattr("tests.gateway.test_suspicion.LOOKS", 6)

    def draw(rng):
        return rng.lognormvariate(5, 1)

    found = alarms(draw, suspicion.larger, lambda look: suspicion.level(look, 1, 0.05), LEAST)
    assert found <= 0.05


def test_a_policy_that_fails_often_is_found_at_the_first_look():
    assert suspicion.more_often(20, 100, 2, 100) <= suspicion.level(1, 1)
