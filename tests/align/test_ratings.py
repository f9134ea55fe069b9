"""Bradley-Terry ratings against hand-worked numbers, planted strengths, promised coverage."""

from __future__ import annotations

import math
import random

import pytest

from align.measure.pairs import sigmoid
from align.measure.ratings import PRIOR, Meeting, inverse, ratings


def met(first: str, second: str, wins: int, losses: int, ties: int = 0) -> list[Meeting]:
    """Meetings of two players, each on a prompt of its own."""
    outcomes = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Meeting(first, second, p, (first, second, n)) for n, p in enumerate(outcomes)]


def test_two_players_are_as_far_apart_as_their_odds() -> None:
    found = ratings(met("a", "b", 30, 10), "b")
    assert found.by["a"].value == pytest.approx(math.log(3), abs=1e-9)
    assert (found.by["b"].value, found.by["b"].low, found.by["b"].high) == (0, 0, 0)
    assert not found.steadied
    # Each of the 40 prompts has influence (outcome - 3/4) / (40 * 3/16).
    influence = [(1 - 0.75) / 7.5] * 30 + [(0 - 0.75) / 7.5] * 10
    error = math.sqrt(sum(one**2 for one in influence) * 40 / 39)
    assert found.by["a"].high == pytest.approx(math.log(3) + 1.959964 * error, abs=1e-5)


def test_a_tie_is_half_a_win_and_weights_count() -> None:
    even = ratings(met("a", "b", 5, 5, 10), "b").by["a"].value
    assert even == pytest.approx(0, abs=1e-12)
    heavy = [Meeting("a", "b", 1.0, 1, weight=3), Meeting("a", "b", 0.0, 2)]
    assert ratings(heavy, "b").by["a"].value == pytest.approx(math.log(3))


def test_who_is_first_in_a_meeting_changes_nothing() -> None:
    some = met("a", "b", 7, 3) + met("b", "c", 6, 4) + met("a", "c", 8, 2)
    turned = [Meeting(m.second, m.first, 1 - m.p, m.group) for m in some]
    one, other = ratings(some, "c").by, ratings(turned, "c").by
    for name in "ab":
        assert one[name].value == pytest.approx(other[name].value)
        assert one[name].high == pytest.approx(other[name].high)


def test_planted_strengths_come_back_and_intervals_cover_them() -> None:
    strengths = {"a": 1.2, "b": 0.4, "c": 0.0, "d": -0.8}
    draw, covered, runs = random.Random(3), 0, 60
    for _ in range(runs):
        some = []
        for prompt in range(80):
            shift = draw.gauss(0, 0.5)  # a taste of the prompt, which its meetings share
            for first, second in (("a", "b"), ("a", "c"), ("b", "c"), ("d", "c"), ("a", "d")):
                edge = strengths[first] - strengths[second] + shift
                some.append(Meeting(first, second, float(draw.random() < sigmoid(edge)), prompt))
        found = ratings(some, "c").by
        covered += sum(
            found[name].low <= value <= found[name].high
            for name, value in strengths.items()
            if name != "c"
        )
    assert covered / (3 * runs) > 0.9


def test_copies_of_a_prompts_meetings_add_no_certainty() -> None:
    once = met("a", "b", 12, 8)
    copies = [Meeting(m.first, m.second, m.p, m.group) for m in once for _ in range(9)]
    one, many = ratings(once, "b").by["a"], ratings(copies, "b").by["a"]
    assert many.value == pytest.approx(one.value)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=1e-6)


def test_who_never_loses_gets_a_finite_rating_and_it_is_said() -> None:
    found = ratings(met("a", "b", 9, 0), "b")
    assert found.steadied
    assert found.by["a"].value == pytest.approx(math.log((9 + PRIOR) / PRIOR))
    assert found.by["a"].low < 1.0, "nine prompts prove little"


def test_who_never_met_the_others_has_no_rating() -> None:
    found = ratings(met("a", "b", 3, 2) + met("x", "y", 3, 2), "a")
    assert set(found.by) == {"a", "b"}
    assert set(ratings([], "a").by) == {"a"}


def test_impossible_meetings_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Meeting("a", "b", 1.2, 0)
    with pytest.raises(ValueError, match="nobody meets themselves"):
        Meeting("a", "a", 1.0, 0)
    with pytest.raises(ValueError, match="singular"):
        inverse([[1, 1], [1, 1]])


def test_an_inverse_times_its_matrix_is_one() -> None:
    matrix = [[0.0, 2.0, 1.0], [1.0, 1.0, 0.0], [3.0, 0.0, 1.0]]
    found = inverse(matrix)
    for i in range(3):
        for k in range(3):
            product = sum(matrix[i][j] * found[j][k] for j in range(3))
            assert product == pytest.approx(float(i == k), abs=1e-12)
