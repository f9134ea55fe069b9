"""Skill on known comparisons: whom the pause rule stops, and what counts as right."""

from __future__ import annotations

import random

import pytest

from plumbline.collect.quality import skill
from plumbline.collect.quality.settings import Quality
from plumbline.collect.quality.skill import Skill, beta_cdf

QUALITY = Quality()
FIRST, SECOND, TIE = [[0], [1]], [[1], [0]], [[0, 1]]


def golds_until_paused(answers, most: int) -> int | None:
    """How many gold comparisons a person answers before the rule stops them."""
    right = wrong = 0
    for n, passed in enumerate(answers, start=1):
        right, wrong = right + passed, wrong + (not passed)
        if skill.must_pause(skill.of(QUALITY, right, wrong), QUALITY):
            return n
        if n == most:
            break
    return None


def test_the_posterior_is_the_beta_distribution():
    assert beta_cdf(0.7, 4, 1) == pytest.approx(0.7**4)
    assert beta_cdf(0.5, 3, 3) == pytest.approx(0.5)
    assert beta_cdf(0.25, 1, 2) == pytest.approx(1 - 0.75**2)
    assert (beta_cdf(0.0, 2, 2), beta_cdf(1.0, 2, 2)) == (0.0, 1.0)
    assert Skill(right=6, wrong=1).mean == pytest.approx(10 / 12)
    low, high = Skill(right=36, wrong=9).interval()
    assert Skill(36, 9).below(low) == pytest.approx(0.025, abs=1e-6)
    assert Skill(36, 9).below(high) == pytest.approx(0.975, abs=1e-6)


def test_five_misses_in_a_row_pause_and_four_do_not():
    assert not skill.must_pause(skill.of(QUALITY, 0, 4), QUALITY)
    assert skill.must_pause(skill.of(QUALITY, 0, 5), QUALITY)
    assert not skill.must_pause(skill.of(QUALITY, 0, 0), QUALITY)


def test_a_perfect_person_is_never_paused_in_ten_thousand():
    assert golds_until_paused((True for _ in range(10_000)), 10_000) is None


def test_somebody_who_clicks_at_random_is_paused_within_forty_golds():
    """A click among the eight choices of a pair (three strengths a side, tie, both bad) is right
    three times in eight where one answer is better."""
    draw = random.Random(0)
    runs = [golds_until_paused((draw.random() < 3 / 8 for _ in range(40)), 40) for _ in range(4000)]
    assert sum(one is not None for one in runs) / len(runs) >= 0.99


def test_planted_duplicates_catch_somebody_who_tosses_a_coin_and_never_says_tie():
    """With one gold in four a duplicate; on the other three the coin is right half of the time."""
    draw = random.Random(1)

    def answers():
        while True:
            yield draw.random() >= 0.25 and draw.random() < 0.5

    runs = [golds_until_paused(answers(), 40) for _ in range(4000)]
    assert sum(one is not None for one in runs) / len(runs) >= 0.99


def test_a_careful_person_is_hardly_ever_paused():
    """Nine of ten right, over four hundred golds."""
    draw = random.Random(2)
    runs = [golds_until_paused((draw.random() < 0.9 for _ in range(400)), 400) for _ in range(200)]
    assert sum(one is not None for one in runs) <= 2


def test_proven_skill_takes_five_in_a_row():
    assert not skill.proven(skill.of(QUALITY, 4, 0), QUALITY)
    assert skill.proven(skill.of(QUALITY, 5, 0), QUALITY)
    assert not skill.proven(skill.of(QUALITY, 0, 0), QUALITY)


@pytest.mark.parametrize(
    ("expected", "outcome", "ranking", "passed"),
    [
        (FIRST, "ranked", FIRST, True),
        (FIRST, "ranked", SECOND, False),
        (FIRST, "ranked", TIE, False),
        (FIRST, "all_bad", [], False),
        (TIE, "ranked", TIE, True),
        (TIE, "ranked", FIRST, False),
        (TIE, "all_bad", [], True),
        (FIRST, "skipped", [], None),
        (FIRST, "flagged", [], None),
        (FIRST, "withdrawn", [], None),
        ([[0], [1, 2]], "ranked", [[0], [1, 2]], True),
        ([[0], [1, 2]], "ranked", [[0], [1], [2]], False),
        ([[2], [0]], "ranked", [[2], [1], [0]], True),
        ([[2], [0]], "ranked", [[0], [1], [2]], False),
    ],
)
def test_a_vote_passes_when_it_says_what_is_expected(expected, outcome, ranking, passed):
    given = {"outcome": "ranked", "ranking": expected}
    assert skill.answers(given, outcome, ranking, {}) is passed


def test_known_ratings_are_met_within_one_point_and_all_bad_only_by_all_bad():
    rated = {"outcome": "absolute", "ratings": {"0": {"truth": 2}}}
    assert skill.answers(rated, "absolute", [], {"0": {"truth": 3}}) is True
    assert skill.answers(rated, "absolute", [], {"0": {"truth": 4}}) is False
    assert skill.answers(rated, "absolute", [], {}) is False
    assert skill.answers({"outcome": "all_bad"}, "all_bad", [], {}) is True
    assert skill.answers({"outcome": "all_bad"}, "ranked", FIRST, {}) is False
