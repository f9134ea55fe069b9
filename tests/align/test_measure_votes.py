"""Accuracy, log-loss, calibration and what scores follow besides quality, worked by hand."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.measure import confounds, intervals, pairs
from align.measure.confounds import Scored
from align.measure.pairs import Belief, Pair

votes = st.lists(
    st.builds(
        Pair,
        margin=st.floats(-20, 20, allow_subnormal=False),
        p=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        weight=st.floats(0.1, 5),
        group=st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=12,
)


def test_accuracy_counts_equal_scores_half_and_leaves_tied_votes_out() -> None:
    found = [Pair(2, 1.0), Pair(-1, 1.0), Pair(0, 0.0), Pair(3, 0.5), Pair(1, 0.8, weight=2)]
    assert pairs.accuracy(found) == pytest.approx((1 + 0 + 0.5 + 2) / 5)
    assert pairs.accuracy([Pair(1, 0.5)]) is None


def test_log_loss_is_the_cross_entropy_of_the_votes() -> None:
    margin = math.log(3)  # sigmoid 3/4
    assert pairs.log_loss([Pair(margin, 1.0)]) == pytest.approx(math.log(4 / 3))
    soft = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert pairs.log_loss([Pair(margin, 0.75)]) == pytest.approx(soft)
    assert pairs.log_loss([Pair(0, 1.0)]) == pytest.approx(math.log(2))
    assert pairs.log_loss([Pair(2 * margin, 1.0)], temperature=2) == pytest.approx(math.log(4 / 3))


@given(votes)
def test_turning_pairs_around_changes_no_figure(found: list[Pair]) -> None:
    turned = [pairs.turned(pair) for pair in found]
    for figure in (pairs.accuracy, pairs.log_loss, pairs.brier, pairs.ece):
        assert figure(turned) == pytest.approx(figure(found))
    assert pairs.reliability(turned) == pytest.approx(pairs.reliability(found))


@given(votes)
def test_turning_the_votes_alone_turns_accuracy_to_its_complement(found: list[Pair]) -> None:
    against = [Pair(-pair.margin, pair.p, pair.weight, pair.group) for pair in found]
    accuracy = pairs.accuracy(found)
    if accuracy is not None:
        assert pairs.accuracy(against) == pytest.approx(1 - accuracy)


def test_the_reliability_curve_is_confidence_against_how_often_that_was_right() -> None:
    sure, unsure = math.log(19), math.log(1.5)  # 0.95 and 0.6
    found = [Pair(sure, 1.0), Pair(sure, 1.0), Pair(-sure, 1.0), Pair(unsure, 1.0)]
    low, high = pairs.reliability(found)
    assert (low.confidence, low.share, low.weight) == pytest.approx((0.6, 1.0, 1))
    assert (high.confidence, high.share, high.weight) == pytest.approx((0.95, 2 / 3, 3))
    assert pairs.ece(found) == pytest.approx((0.4 + 3 * (0.95 - 2 / 3)) / 4)


def test_a_perfectly_calibrated_model_has_no_calibration_error() -> None:
    found = [Pair(math.log(3), 0.75), Pair(math.log(9), 0.9), Pair(0, 0.5)]
    assert pairs.ece(found) == pytest.approx(0, abs=1e-12)


def test_the_best_temperature_undoes_a_planted_one() -> None:
    draw = random.Random(0)
    truth = [draw.gauss(0, 1.5) for _ in range(4000)]
    found = [Pair(3 * u, float(draw.random() < pairs.sigmoid(u))) for u in truth]
    temperature = pairs.best_temperature(found)
    assert temperature == pytest.approx(3, rel=0.08)
    before, after = pairs.ece(found), pairs.ece(found, temperature)
    assert before is not None
    assert after is not None
    assert after < 0.03 < before
    exact = [Pair(3 * u, pairs.sigmoid(u)) for u in truth[:50]]
    assert pairs.best_temperature(exact) == pytest.approx(3, rel=1e-6)


def test_a_model_that_knows_nothing_is_made_as_unsure_as_can_be() -> None:
    assert pairs.best_temperature([Pair(1, 0.0), Pair(-1, 1.0)]) == pairs.HOTTEST
    assert pairs.best_temperature([Pair(1, 1.0)]) == pairs.COLDEST


def test_few_votes_hardly_move_the_temperature_in_use_and_many_find_the_best() -> None:
    assert pairs.shrunk_temperature([]) == pytest.approx(1)
    assert 0.7 < pairs.shrunk_temperature([Pair(1, 1.0)]) < 1  # the best one were COLDEST
    draw = random.Random(0)
    truth = [draw.gauss(0, 1.5) for _ in range(4000)]
    found = [Pair(3 * u, float(draw.random() < pairs.sigmoid(u))) for u in truth]
    assert pairs.shrunk_temperature(found) == pytest.approx(pairs.best_temperature(found), rel=0.01)
    assert 1 < pairs.shrunk_temperature(found[:10]) < 3.5
    sure = [Pair(margin=1e-4, p=1.0)] * 100_000
    assert pairs.shrunk_temperature(sure) == pytest.approx(1 / pairs.FAR)
    assert pairs.shrunk_temperature([Pair(1e3, 0.0)]) == pairs.FAR


def test_what_was_thought_of_a_temperature_before_counts_as_much_as_it_was_sure() -> None:
    assert pairs.shrunk_temperature([], Belief(2.5, 0.2)) == pytest.approx(2.5)
    few = [Pair(1, 1.0)] * 20  # alone they say: as cold as can be
    sure, unsure = (pairs.shrunk_temperature(few, Belief(2.5, spread)) for spread in (0.1, 1.0))
    assert 2 < sure < 2.5
    assert unsure < 1
    draw = random.Random(1)
    votes = [Pair(2 * u, float(draw.random() < pairs.sigmoid(u))) for u in [1.0, -0.5, 2.0] * 300]
    at_once = pairs.believed(votes)
    in_turn = pairs.believed(votes[300:], pairs.believed(votes[:300]))
    assert in_turn.value == pytest.approx(at_once.value, rel=0.02)
    assert in_turn.spread == pytest.approx(at_once.spread, rel=0.02)
    assert Belief.of({"accuracy": 0.6}) == Belief()


def test_the_doubt_about_a_temperature_is_the_spread_that_it_would_have_over_draws() -> None:
    draw = random.Random(2)
    found = []
    for _ in range(200):
        truth = [draw.gauss(0, 1.5) for _ in range(300)]
        votes = [Pair(2 * u, float(draw.random() < pairs.sigmoid(u))) for u in truth]
        found.append(math.log(pairs.believed(votes, Belief(2.0, 100.0)).value))
    spread = pairs.believed(votes, Belief(2.0, 100.0)).spread
    assert statistics.stdev(found) == pytest.approx(spread, rel=0.2)


def test_the_unbiased_error_is_the_same_however_few_votes_there_are() -> None:
    """Planted: log-odds three times too great. The plain error of few votes is mostly chance."""
    draw = random.Random(3)

    def votes(count: int, factor: float) -> list[Pair]:
        truth = [draw.gauss(0, 1) for _ in range(count)]
        return [Pair(factor * u, float(draw.random() < pairs.sigmoid(u))) for u in truth]

    def squares(count: int, factor: float) -> float:
        found = [pairs.calibration_error(votes(count, factor)) for _ in range(100)]
        return statistics.fmean(one**2 for one in found if one is not None) ** 0.5

    whole = pairs.calibration_error(votes(40_000, 3.0))
    assert squares(200, 3.0) == pytest.approx(whole, rel=0.08)
    right = [pairs.ece(votes(200, 1.0)) for _ in range(50)]
    assert statistics.fmean(one for one in right if one is not None) > 0.06
    assert squares(200, 1.0) < 0.05
    assert pairs.calibration_error(votes(19, 1.0)) is None


def test_the_unbiased_error_by_hand() -> None:
    sure = math.log(3)  # 3/4, and right in 1 of 2: off by 1/4, of which chance explains a half
    found = pairs.calibration_error([Pair(sure, 1.0), Pair(sure, 0.0)], bins=1)
    assert found == 0  # 1/16 less 1/4
    many = [Pair(sure, float(k % 2)) for k in range(100)]
    chance = 0.25 / 99
    assert pairs.calibration_error(many, bins=1) == pytest.approx((1 / 16 - chance) ** 0.5)


def test_the_brier_score_is_the_squared_distance_from_the_votes() -> None:
    assert pairs.brier([Pair(math.log(3), 1.0), Pair(0, 0.0, weight=3)]) == pytest.approx(
        (1 / 16 + 3 / 4) / 4
    )
    assert pairs.brier([]) is None


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        draw = random.Random(seed)
        found = []
        for group in range(40):  # votes on one prompt are right or wrong together
            right = float(draw.random() < 0.7)
            found += [Pair(1, right, group=str(group)) for _ in range(3)]
        one = intervals.interval(found, pairs.accuracy, resamples=200)
        assert one is not None
        assert one.groups == 40
        covered += one.low <= 0.7 <= one.high
    assert covered >= 51  # of 60 at 95 %


def test_two_models_are_compared_on_the_same_votes() -> None:
    mine = [Pair(1, 1.0, group=str(k)) for k in range(30)]
    theirs = [Pair(-1 if k < 10 else 1, 1.0, group=str(k)) for k in range(30)]
    gap = intervals.difference(mine, theirs, pairs.accuracy)
    assert gap is not None
    assert gap.value == pytest.approx(1 / 3)
    assert 0 < gap.low < 1 / 3 < gap.high < 0.6
    with pytest.raises(ValueError, match="the same votes"):
        intervals.difference(mine, theirs[:-1], pairs.accuracy)


def test_a_single_prompt_gives_no_interval_to_rely_on() -> None:
    one = intervals.interval([Pair(1, 1.0), Pair(1, 1.0)], pairs.accuracy)
    assert one is not None
    assert (one.low, one.high) == (-math.inf, math.inf)


def test_the_length_correlation_is_within_prompts() -> None:
    """A prompt whose answers are all long and all well scored says nothing of length."""
    answers = [
        *(Scored("short", "", score, 10) for score in (1.0, 2.0)),
        *(Scored("long", "", score, 99) for score in (11.0, 12.0)),
    ]
    assert confounds.length_correlation(answers) is None
    answers = [Scored(p, "", s, n) for p in "ab" for s, n in ((1.0, 10), (2.0, 20), (3.0, 30))]
    found = confounds.length_correlation(answers)
    assert found is not None
    assert found.value == pytest.approx(1)


def test_style_is_what_an_answer_looks_like() -> None:
    text = "# Title\n- one\n- **two**!\n1. three?"
    assert confounds.style(text) == {
        "list items": 3, "headings": 1, "bold": 1, "exclamation marks": 1, "questions": 1,
        "digits": 1,
    }  # fmt: skip
    answers = [
        Scored(str(k), text, score, 1)
        for k in range(5)
        for text, score in (("- a\n- b", 2.0), ("a b", 1.0))
    ]
    assert confounds.style_correlations(answers).keys() == {"list items"}
    assert confounds.style_correlations(answers)["list items"].value == pytest.approx(1)


def test_what_is_not_a_vote_is_refused() -> None:
    for bad in ({"p": 1.2}, {"p": 1, "weight": -1}, {"p": 1, "weight": math.nan}):
        with pytest.raises(ValueError, match="between 0 and 1|0 or more"):
            Pair(1.0, **bad)
    with pytest.raises(ValueError, match="not a number"):
        Pair(math.nan, 1.0)
