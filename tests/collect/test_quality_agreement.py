"""Agreement beyond chance: published and hand-worked tables, and what must never change it."""

from __future__ import annotations

import random

import pytest

from plumbline.collect.quality import agreement
from plumbline.collect.quality.intervals import bootstrap, proportion

# Krippendorff (2011), section C: twelve units, four people, with gaps.
MISSING = None
PUBLISHED = [
    (1, 2, 3, 3, 2, 1, 4, 1, 2, MISSING, MISSING, MISSING),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, MISSING, 3),
    (MISSING, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, MISSING),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, MISSING),
]


def units(table) -> list[list[list[float]]]:
    """A table by person as comparisons of one unit each."""
    return [[[label for label in unit if label is not None]] for unit in zip(*table, strict=True)]


def pairs(counts) -> list[list[list[float]]]:
    """Two people's labels from a table of counts: {(first, second): how often}."""
    return [[list(labels)] for labels, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_krippendorffs_on_his_own_table_with_gaps(level, expected):
    assert agreement.alpha(units(PUBLISHED), level).value == pytest.approx(expected, abs=5e-4)


def test_alpha_worked_by_hand():
    """Three units of two people: a a, a b, b b. Coincidences aa 2, ab 1, ba 1, bb 2; n = 6.
    Do = 2/6; De = 2 (3 * 3) / (6 * 5) = 0.6; alpha = 1 - 0.5556."""
    found = agreement.alpha([[[0, 0]], [[0, 1]], [[1, 1]]])
    assert found.value == pytest.approx(1 - (2 / 6) / 0.6)


def test_cohens_kappa_worked_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: po = 0.7, pe = 0.5, kappa = 0.4."""
    table = pairs({(1, 1): 20, (1, 0): 5, (0, 1): 10, (0, 0): 15})
    found = agreement.cohen(table)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    # The large-sample standard error is 0.127: the interval is about 0.15 to 0.65.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.127, rel=0.15)


def test_weighted_kappa_forgives_near_misses():
    """Three grades; seen: (0,0) 2, (1,1) 2, (2,2) 2, (0,1) 2, (0,2) 1, nine units in all."""
    table = pairs({(0, 0): 2, (1, 1): 2, (2, 2): 2, (0, 1): 2, (0, 2): 1})
    assert agreement.cohen(table).value == pytest.approx(1 - (3 / 9) / (57 / 81))
    # Linear weights: seen (2 * 1 + 2) / 9; by chance from margins (5, 2, 2) and (2, 4, 3).
    chance = (5 * 4 + 5 * 3 * 2 + 2 * 2 + 2 * 3 + 2 * 2 * 2 + 2 * 4) / 81
    assert agreement.cohen(table, "linear").value == pytest.approx(1 - (4 / 9) / chance)
    chance = (5 * 4 + 5 * 3 * 4 + 2 * 2 + 2 * 3 + 2 * 2 * 4 + 2 * 4) / 81
    assert agreement.cohen(table, "quadratic").value == pytest.approx(1 - (6 / 9) / chance)


def test_ac1_worked_by_hand_where_kappa_is_paradoxical():
    """118 yes-yes, 5, 2, 0 no-no (Gwet 2008): 94.4 % agree, kappa is below zero, AC1 near 0.94."""
    table = pairs({(1, 1): 118, (1, 0): 5, (0, 1): 2})
    agreed = 118 / 125
    share = (123 + 120) / 250
    chance = 2 * share * (1 - share)
    assert agreement.cohen(table).value < 0
    assert agreement.ac1(table).value == pytest.approx((agreed - chance) / (1 - chance))
    assert agreement.ac1(table).value == pytest.approx(0.941, abs=1e-3)


def test_perfect_agreement_is_one_and_claims_no_interval():
    same = [[[label, label, label]] for label in (1, -1, 0, 1, 1, -1)]
    for figure in (agreement.alpha, agreement.ac1):
        found = figure(same, exchangeable=True)
        assert found.value == pytest.approx(1.0)
        assert not found.has_interval
        assert "no telling" in found.why
    assert agreement.raw(same).value == 1.0
    assert agreement.cohen([[u[:2]] for c in same for u in c]).value == pytest.approx(1.0)


def test_one_agreed_preference_is_perfect_agreement_whichever_answer_is_called_first():
    """The naming is arbitrary: both preferring one of two answers is no sign of a narrow scale."""
    assert agreement.alpha([[[1, 1]]], exchangeable=True).value == pytest.approx(1.0)
    assert agreement.alpha([[[1, 1]]]).value is None


@pytest.mark.parametrize("people", [2, 5])
def test_random_labels_agree_by_chance_alone(people):
    inside = 0
    for seed in range(10):
        draw = random.Random(seed)
        votes = [[[draw.choice([-1, 0, 1]) for _ in range(people)]] for _ in range(300)]
        for found in (agreement.alpha(votes), agreement.ac1(votes, exchangeable=True)):
            inside += found.low <= 0 <= found.high
    assert inside >= 17  # of 20; a 95 % interval is expected to hold 19


def test_what_answers_are_called_changes_nothing():
    draw = random.Random(3)
    votes = [
        [[draw.choice([-2, -1, 0, 1, 2]) for _ in range(draw.choice([2, 3]))]] for _ in range(200)
    ]
    renamed = [
        [[-label for label in unit] for unit in one] if draw.random() < 0.5 else one
        for one in votes
    ]
    for figure in (agreement.alpha, agreement.ac1):
        before = figure(votes, exchangeable=True).value
        assert figure(renamed, exchangeable=True).value == pytest.approx(before, abs=1e-9)
    ordinal = agreement.alpha(votes, "ordinal", exchangeable=True).value
    after = agreement.alpha(renamed, "ordinal", exchangeable=True).value
    assert after == pytest.approx(ordinal, abs=1e-9)
    assert agreement.raw(renamed).value == agreement.raw(votes).value


@pytest.mark.parametrize("figure", [agreement.alpha, agreement.ac1, agreement.raw])
def test_a_single_person_has_no_agreement_and_the_page_can_say_why(figure):
    found = figure([[[1]], [[0]], [[-1]]])
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.why == agreement.NO_SHARED


def test_one_label_for_everything_leaves_chance_agreement_certain():
    ties = [[[0, 0]]] * 9
    assert agreement.alpha(ties).why == agreement.ONE_LABEL
    assert agreement.ac1(ties, exchangeable=True).why == agreement.ONE_LABEL
    assert agreement.cohen(ties).why == agreement.ONE_LABEL
    assert agreement.raw(ties).value == 1.0
    assert agreement.cohen([]).why == agreement.ONE_PERSON


def test_votes_of_one_comparison_are_resampled_together():
    """Ten comparisons of ten equal units each are ten observations, not a hundred."""
    draw = random.Random(5)
    apart = [[[1, draw.choice([1, -1])]] for _ in range(100)]
    together = [one * 10 for one in apart[:10]]
    wide, narrow = agreement.raw(together), agreement.raw(apart)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert (wide.n, narrow.n) == (10, 100)


def test_bootstrap_intervals_hold_the_truth_nineteen_times_in_twenty():
    held = 0
    for seed in range(150):
        draw = random.Random(seed)
        hits = [(float(draw.random() < 0.7), 1.0) for _ in range(150)]
        found = bootstrap(hits, lambda s: s[0] / s[1], "", seed=seed)
        held += found.low <= 0.7 <= found.high
    assert 0.90 <= held / 150 <= 0.99


def test_an_interval_takes_some_comparisons():
    found = agreement.raw([[[1, 1]], [[1, -1]]])
    assert (found.value, found.has_interval) == (0.5, False)
    assert "5 comparisons" in found.why


def test_a_proportion_has_wilsons_interval():
    found = proportion(8, 10, "")
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert proportion(0, 0, "Nothing yet.").why == "Nothing yet."


def test_rankings_agree_by_kendall():
    assert agreement.concordance([[1, 2, 3], [1, 2, 3]]) == pytest.approx(1.0)
    assert agreement.concordance([[1, 2, 3], [3, 2, 1]]) == pytest.approx(0.0)
    # Places 1,2,3 / 1,3,2 / 2,1,3: sums 4, 6, 8; S = 8; W = 12 * 8 / (9 * 24).
    assert agreement.concordance([[1, 2, 3], [1, 3, 2], [2, 1, 3]]) == pytest.approx(96 / 216)
    # With a tie, 1,2.5,2.5 twice: still full agreement.
    assert agreement.concordance([[1, 2.5, 2.5], [1, 2.5, 2.5]]) == pytest.approx(1.0)
    assert agreement.concordance([[1, 2, 3]]) is None
    assert agreement.concordance([[2, 2, 2], [2, 2, 2]]) is None
    assert agreement.tau_b([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert agreement.tau_b([1, 2, 2], [1, 2, 3]) == pytest.approx(2 / (2 * 3) ** 0.5)
    assert agreement.tau_b([1, 1], [1, 2]) is None
    assert agreement.places([[2], [0, 3], [1]]) == [2.5, 4.0, 1.0, 2.5]
    assert agreement.kendall_w([[[1, 2, 3]]]).why == agreement.NO_ORDER
