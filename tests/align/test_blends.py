"""Coefficients of blends, against hand-worked values and what must hold of each method."""

from __future__ import annotations

import math
import random

import pytest

from align import blends
from align.measure import pareto


def test_a_soup_is_the_preference_as_shares() -> None:
    assert blends.soup([3, 1]) == [0.75, 0.25]
    for bad in ([], [0, 0], [1, -1], [math.nan, 1]):
        with pytest.raises(ValueError, match="share"):
            blends.soup(bad)


def test_a_bone_soup_solves_its_matrix() -> None:
    draw = random.Random(1)
    for count in (2, 3, 5):
        for own in (0.6, 0.7, 0.8):
            column = [own if i == 0 else (1 - own) / (count - 1) for i in range(count)]
            assert blends.bone_soup(column, own) == pytest.approx([1.0] + [0.0] * (count - 1))
            other = (1 - own) / (count - 1)
            inside = blends.soup([draw.uniform(0.9, 1.1) for _ in range(count)])
            x = blends.bone_soup(inside, own)
            assert sum(x) == pytest.approx(1)
            back = [own * x[i] + other * (sum(x) - x[i]) for i in range(count)]
            assert back == pytest.approx(inside)


def test_a_bone_soup_of_policies_with_one_objective_each_is_a_rewarded_soup() -> None:
    assert blends.bone_soup([0.3, 0.7], 1.0) == pytest.approx([0.3, 0.7])


def test_a_bone_soup_goes_beyond_its_policies_but_not_far() -> None:
    exact = [(1 - 0.4) / 0.2, (0 - 0.4) / 0.2]  # 3 and -2
    assert exact == pytest.approx([3, -2])
    assert blends.bone_soup([1, 0], 0.6) == pytest.approx([1.5, -0.5])


def test_a_bone_soup_of_which_clipping_leaves_nothing_is_refused() -> None:
    assert blends.bone_soup([1, 0, 0], 0.4) == pytest.approx([3, -1, -1])  # 1.5 - 0.5 - 0.5
    with pytest.raises(ValueError, match="too alike for so one-sided a blend"):
        blends.bone_soup([1, 0, 0, 0], 0.3)  # 1.5 - 3 * 0.5


@pytest.mark.parametrize("own", [0.5, 0.2, 1.01, math.nan])
def test_a_matrix_without_an_inverse_is_refused(own: float) -> None:
    with pytest.raises(ValueError, match="more than 1/2 of its own objective"):
        blends.bone_soup([0.5, 0.5], own)
    with pytest.raises(ValueError, match="two policies"):
        blends.bone_soup([1.0], 0.7)


def test_a_vector_adds_and_takes_away_the_same() -> None:
    assert blends.vector(0.5) == [1.0, 0.5, -0.5]
    assert sum(blends.vector(-2.0)) == 1.0
    with pytest.raises(ValueError, match="number"):
        blends.vector(math.inf)


def test_a_simplex_has_every_share_once() -> None:
    assert list(blends.simplex(2, 4)) == [(1, 0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0, 1)]
    three = list(blends.simplex(3, 4))
    assert len(three) == len(set(three)) == 15
    assert all(sum(one) == pytest.approx(1) for one in three)
    assert {(1, 0, 0), (0, 1, 0), (0, 0, 1)} <= set(three)


def test_the_front_holds_what_nothing_beats() -> None:
    found = pareto.front([(1, 3), (2, 2), (1, 2), (3, 1), (3, 1)])
    assert found == [True, True, False, True, True]


def test_hypervolumes_by_hand() -> None:
    assert pareto.hypervolume([(1, 1)], (0, 0)) == 1
    assert pareto.hypervolume([(1, 3), (2, 2), (3, 1)], (0, 0)) == 6
    assert pareto.hypervolume([(1, 3), (2, 2), (3, 1), (1, 1)], (0, 0)) == 6  # the last is beaten
    assert pareto.hypervolume([(2, 1, 1), (1, 2, 1), (1, 1, 2)], (0, 0, 0)) == 4
    assert pareto.hypervolume([(0, 5)], (0, 0)) == 0


def test_hypervolume_agrees_with_counting_points() -> None:
    draw = random.Random(0)
    points = [[draw.random() for _ in range(3)] for _ in range(8)]
    darts = [[draw.random() for _ in range(3)] for _ in range(20_000)]
    inside = lambda dart, p: all(d <= x for d, x in zip(dart, p, strict=True))  # noqa: E731
    hit = sum(any(inside(dart, p) for p in points) for dart in darts)
    assert pareto.hypervolume(points, (0, 0, 0)) == pytest.approx(hit / len(darts), abs=0.015)


def test_objectives_are_scaled_each_by_itself() -> None:
    assert pareto.scaled([(0, 10), (5, 30), (10, 20)]) == [[0, 0], [0.5, 1], [1, 0.5]]
    assert pareto.scaled([(1, 2), (1, 4)]) == [[0.5, 0], [0.5, 1]]
