"""Distances between reward models, best of n, over-optimisation and shaping, worked by hand."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.measure import best_of_n, overoptimisation, shaping
from align.measure.distance import distance

scores = st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=4, max_size=4)
rewards = st.fixed_dictionaries({"x": scores, "y": scores})


def drawn(seed: int, prompts: int = 300, answers: int = 8) -> dict[str, list[float]]:
    draw = random.Random(seed)
    return {str(k): [draw.gauss(0, 1) for _ in range(answers)] for k in range(prompts)}


def apart(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> float:
    return distance(ours, theirs, resamples=1).starc.value


def test_scale_and_a_shift_of_each_prompt_are_no_distance() -> None:
    ours = drawn(0)
    theirs = {k: [3.5 * r + 7 * int(k) for r in row] for k, row in ours.items()}
    found = distance(ours, theirs, resamples=20)
    assert found.starc.value == pytest.approx(0, abs=1e-6)
    assert found.tau == pytest.approx(1)
    assert found.starc.high == pytest.approx(0, abs=1e-6)


def test_the_opposite_is_one_apart_and_the_unrelated_about_seven_tenths() -> None:
    ours = drawn(0)
    assert apart(ours, {k: [-r for r in row] for k, row in ours.items()}) == pytest.approx(1)
    found = distance(ours, drawn(1), resamples=100)
    assert found.starc.value == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert found.starc.low < math.sqrt(0.5) < found.starc.high
    assert found.tau == pytest.approx(0, abs=0.05)


@settings(max_examples=60)
@given(rewards, rewards, rewards)
def test_it_is_a_metric(a: dict, b: dict, c: dict) -> None:
    assert apart(a, b) == pytest.approx(apart(b, a), abs=1e-7)
    assert 0 <= apart(a, b) <= 1 + 1e-12
    assert apart(a, c) <= apart(a, b) + apart(b, c) + 1e-6
    assert apart(a, a) == pytest.approx(0, abs=1e-6)


def test_a_model_that_tells_nothing_apart_is_half_from_any_that_does() -> None:
    flat = {"x": [1.0, 1.0], "y": [2.0, 2.0]}
    assert apart(flat, flat) == 0
    assert apart(flat, {"x": [0.0, 1.0], "y": [0.0, 0.0]}) == 0.5


def test_a_bent_scale_moves_the_distance_and_not_the_order() -> None:
    ours = drawn(0, prompts=40)
    found = distance(ours, {k: [math.exp(r) for r in row] for k, row in ours.items()}, resamples=1)
    assert found.tau == pytest.approx(1)
    assert found.starc.value > 0.2


def test_models_are_compared_on_the_same_answers() -> None:
    with pytest.raises(ValueError, match="the same answers"):
        distance({"x": [1.0]}, {"x": [1.0, 2.0]})


def test_the_best_of_n_is_exact_over_all_ways_to_draw_them() -> None:
    proxy, gold = [0.3, 0.9, 0.1, 0.5, 0.7], [1.0, -2.0, 0.5, 3.0, 0.2]
    for n in range(1, 6):
        draws = list(itertools.combinations(range(5), n))
        by_hand = sum(gold[max(d, key=lambda k: proxy[k])] for d in draws) / len(draws)
        assert best_of_n.expected(proxy, gold, n) == pytest.approx(by_hand)
    assert best_of_n.expected(proxy, gold, 1) == pytest.approx(sum(gold) / 5)
    assert best_of_n.expected(proxy, proxy, 5) == max(proxy)
    with pytest.raises(ValueError, match="at least 6"):
        best_of_n.weights(proxy, 6)


def test_answers_that_the_proxy_cannot_tell_apart_share_alike() -> None:
    weights = best_of_n.weights([1.0, 2.0, 2.0], 2)
    assert weights == pytest.approx([0, 0.5, 0.5])
    assert best_of_n.weights([0.0] * 4, 3) == pytest.approx([0.25] * 4)


def test_the_estimator_has_no_bias() -> None:
    draw = random.Random(0)
    samples = [[draw.gauss(0, 1) for _ in range(16)] for _ in range(4000)]
    found = sum(best_of_n.expected(row, row, 4) for row in samples) / len(samples)
    assert found == pytest.approx(1.0294, abs=0.02)  # the mean of the largest of four normals


def test_win_rates_of_the_best_of_n_start_at_one_half() -> None:
    proxy = [0.1, 0.4, 0.2, 0.9]
    assert best_of_n.win_rate(proxy, proxy, 1) == 0.5
    assert best_of_n.win_rate(proxy, proxy, 4) == pytest.approx((3 + 0.5) / 4)
    assert best_of_n.win_rate(proxy, [-one for one in proxy], 4) == pytest.approx(0.5 / 4)


def test_the_kl_bound_is_far_too_high_where_few_answers_are_likely() -> None:
    assert best_of_n.kl_bound(16) == pytest.approx(1.8351, abs=5e-5)
    assert best_of_n.kl([0.001] * 1000, list(range(1000)), 16) == pytest.approx(1.8351, abs=2e-3)
    assert best_of_n.kl([0.5, 0.5], [0, 1], 16) == pytest.approx(0.693, abs=5e-4)
    assert best_of_n.kl([0.1, 0.9], [0, 1], 16) == pytest.approx(0.105, abs=5e-4)
    samples = ["no"] + ["yes"] * 9
    found = best_of_n.kl_of_samples(samples, [float(a == "yes") for a in samples], 16)
    assert found == pytest.approx(0.105, abs=5e-4)


@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=6), st.integers(2, 20))
def test_kl_grows_with_n_and_stays_below_its_bound(masses: list[float], n: int) -> None:
    probabilities = [mass / sum(masses) for mass in masses]
    order = list(range(len(masses)))
    found = [best_of_n.kl(probabilities, order, k) for k in (1, n, n + 1)]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[1] <= found[2] + 1e-12
    assert found[2] <= best_of_n.kl_bound(n + 1) + 1e-12


def gains(form: overoptimisation.Form, a: float, b: float, noise: float) -> tuple[list, list]:
    draw = random.Random(1)
    d = [0.25 * k for k in range(1, 41)]
    rows = [
        [overoptimisation.gain(form, a, b, x) + draw.gauss(0, noise) for x in d] for _ in range(50)
    ]
    return d, rows


@pytest.mark.parametrize(("form", "a", "b"), [("best_of_n", 1.2, 0.11), ("training", 1.0, 0.45)])
def test_a_planted_peak_is_found_with_its_interval(
    form: overoptimisation.Form, a: float, b: float
) -> None:
    found = overoptimisation.fit(form, *gains(form, a, b, 0.3))
    assert found.a == pytest.approx(a, rel=0.05)
    assert found.b == pytest.approx(b, rel=0.05)
    assert found.low <= overoptimisation.peak(form, a, b) <= found.high
    assert found.identified
    assert found.why == ""


@pytest.mark.parametrize("form", ["best_of_n", "training"])
def test_without_a_bend_no_peak_is_claimed(form: overoptimisation.Form) -> None:
    found = overoptimisation.fit(form, *gains(form, 1.0, 0.0, 0.0))
    assert found.peak == math.inf or found.peak > 1e6
    assert not found.identified
    assert "still rises" in found.why


def test_a_peak_beyond_what_was_measured_is_not_identified() -> None:
    d, rows = gains("best_of_n", 1.2, 0.11, 0.01)
    near = [k for k, x in enumerate(d) if x < 4]
    found = overoptimisation.fit(
        "best_of_n", [d[k] for k in near], [[r[k] for k in near] for r in rows]
    )
    assert not found.identified
    few = overoptimisation.fit("best_of_n", d[::10], [row[::10] for row in rows])
    assert "a peak needs 6" in few.why


def test_points_next_to_the_start_are_left_out() -> None:
    d, rows = gains("best_of_n", 1.2, 0.11, 0.0)
    found = overoptimisation.fit("best_of_n", [0.01, *d], [[99.0, *row] for row in rows])
    assert found.a == pytest.approx(1.2)


def test_par_is_bounded_blind_to_shifts_and_rises_with_the_reward() -> None:
    references = [0.5, -1.0, 2.0]
    found = [shaping.par(r, references) for r in (-50, -1, 0, 1, 30)]
    assert found == sorted(set(found))
    assert all(0 < one < 1 for one in found)
    shifted = shaping.par(1 + 9, [r + 9 for r in references])
    assert shifted == pytest.approx(shaping.par(1, references))
    mean = sum(shaping.par(r, references) for r in references) / 3
    assert mean == pytest.approx(0.5)
    assert shaping.par(math.log(3), [0.0]) == pytest.approx(0.75)


def test_clip_never_pays_and_delta_pays_for_no_repetition() -> None:
    steps = [0.9, 0.4, 0.6, 0.7]
    assert shaping.clipped(steps, 0.65) == pytest.approx([0, -0.25, -0.05, 0])
    assert shaping.deltas(steps) == pytest.approx([0.5, -0.2, 0.6, 0])
    for k in range(3):  # the rest of the sum telescopes
        assert sum(shaping.deltas(steps)[k:]) == pytest.approx(steps[k])
    repeated = [0.9, 0.4, 0.4, 0.6, 0.7]
    assert sum(shaping.deltas(repeated)) == pytest.approx(sum(shaping.deltas(steps)))
    assert shaping.outcome_and_steps([0.5, 0.0], True, 0.1) == pytest.approx([0.05, 1.0])
    assert shaping.deltas([0.3]) == [0.0]
