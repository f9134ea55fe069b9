"""Judges measured against people: concordance, fits without an intercept, trust, powered means."""

from __future__ import annotations

import gzip
import json
import math
import random
from bisect import bisect_left
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.measure import pairs
from align.measure.antisymmetric import Fit, Said, dlen, fit, logit, mix, mixed
from align.measure.concordance import Voted, agreed, concordance, majority
from align.measure.means import mean, quantile, upper_bound
from align.measure.pairs import Pair, sigmoid
from align.measure.prediction_powered import powered
from align.measure.trust import threshold, watch

chances = st.floats(0, 1)
words = st.text(max_size=30)


def test_two_agree_fully_when_they_say_the_same_and_half_when_one_calls_a_tie() -> None:
    assert agreed(1.0, 0.7) == 1.0
    assert agreed(0.5, 0.5) == 1.0
    assert agreed(0.5, 1.0) == 0.5
    assert agreed(0.2, 1.0) == 0.0
    assert majority([1.0, 0.0]) == 0.5
    assert majority([1.0, 0.5, 0.5]) == 1.0


def test_a_judge_is_measured_like_one_more_person() -> None:
    found = concordance(
        [Voted((1.0, 1.0, 0.0), 0.9, group=1), Voted((0.0,), 0.9, group=2), Voted((1.0,), 0.9)]
    )
    assert found.pairs == 1
    # The majorities of the others are 1/2, 1/2 and 1: the people who voted 1, 1 and 0 say so half,
    # half and not at all; the judge, who says 1, half, half and fully.
    assert found.people is not None
    assert found.people.value == pytest.approx(1 / 3)
    assert found.judge_beside is not None
    assert found.judge_beside.value == pytest.approx(2 / 3)
    assert found.judge is not None
    assert found.judge.value == pytest.approx(2 / 3)
    assert concordance([]).judge is None


def test_a_judge_that_is_one_of_the_crowd_agrees_as_people_do() -> None:
    draw = random.Random(1)
    rows = []
    for at in range(3000):
        p = draw.betavariate(1, 1)
        votes = tuple(float(draw.random() < p) for _ in range(3))
        rows.append(Voted(votes, float(draw.random() < p), group=at))
    found = concordance(rows)
    assert found.people is not None
    assert found.judge_beside is not None
    assert found.judge_beside.value == pytest.approx(found.people.value, abs=0.02)


def test_means_of_groups_cover_the_truth_as_often_as_they_say() -> None:
    draw = random.Random(2)
    covered = 0
    for _ in range(600):
        values, groups = [], []
        for group in range(30):
            level = draw.gauss(0, 1)
            for _ in range(3):
                values.append(level + draw.gauss(0, 0.5))
                groups.append(group)
        found = mean(values, None, groups)
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / 600 <= 0.97
    assert mean([], []) is None
    alone = mean([1.0, 0.0], None, ["same", "same"])
    assert alone is not None
    assert alone.low == -math.inf


def test_quantiles_are_students() -> None:
    for freedom, expected in ((4, 2.776), (9, 2.262), (29, 2.045), (10**6, 1.960)):
        assert quantile(0.975, freedom) == pytest.approx(expected, abs=0.01)


def test_the_bound_of_a_count_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 29) == pytest.approx(1 - 0.05 ** (1 / 29))
    assert upper_bound(0, 29) < 0.1 < upper_bound(0, 28)
    assert upper_bound(5, 50) == pytest.approx(0.1987, abs=2e-3)
    assert upper_bound(3, 3) == upper_bound(0, 0) == 1.0
    assert upper_bound(4.5, 50) == upper_bound(5, 50)


def planted(count: int, *, a: float, length: float, seed: int) -> list[Said]:
    """People vote by their own log-odds; the judge says `a` times those, and likes length."""
    draw = random.Random(seed)
    found = []
    for at in range(count):
        true, longer = draw.gauss(0, 1.2), draw.uniform(-0.8, 0.8)
        y = float(draw.random() < sigmoid(true))
        found.append(Said(sigmoid(a * true + length * longer), y, longer, group=at))
    return found


def test_a_planted_temperature_and_taste_for_length_are_found() -> None:
    covered_a = covered_b = 0
    for seed in range(60):
        found = fit(planted(400, a=2.5, length=1.5, seed=seed))
        assert found.a_interval is not None
        assert found.b_interval is not None
        covered_a += found.a_interval.low <= 1 / 2.5 <= found.a_interval.high
        covered_b += found.b_interval.low <= -1.5 / 2.5 <= found.b_interval.high
    assert covered_a >= 53
    assert covered_b >= 53


def test_fitted_chances_are_better_calibrated_out_of_sample() -> None:
    learned, seen = planted(600, a=3, length=1, seed=1), planted(600, a=3, length=1, seed=2)
    found = fit(learned)

    def figures(chance) -> tuple[float | None, float | None]:
        rows = [Pair(logit(chance(one)), one.y) for one in seen]
        return pairs.ece(rows, bins=15), pairs.log_loss(rows)

    raw, fitted = figures(lambda one: one.p), figures(lambda one: found(one.p, one.longer))
    assert fitted[0] is not None
    assert raw[0] is not None
    assert raw[1] is not None
    assert fitted[1] is not None
    assert fitted[0] < raw[0]
    assert fitted[1] < raw[1]


@given(chances, words, words, st.floats(0, 4), st.floats(-4, 4))
def test_a_fit_gives_the_other_order_the_rest(p, one, other, a, b) -> None:
    found = Fit(a, b)
    there, back = found(p, dlen(one, other)), found(1 - p, dlen(other, one))
    assert there + back == pytest.approx(1, abs=1e-12)


def test_a_fit_of_pairs_turned_around_is_the_same() -> None:
    rows = planted(200, a=2, length=1, seed=5)
    turned = [Said(1 - r.p, 1 - r.y, -r.longer, r.weight, r.group) for r in rows]
    assert fit(turned).a == pytest.approx(fit(rows).a, abs=1e-7)
    assert fit(turned).b_len == pytest.approx(fit(rows).b_len, abs=1e-7)


def test_a_judge_that_contradicts_people_is_silenced_and_never_inverted() -> None:
    rows = [Said(1 - one.p, one.y, 0.0, group=one.group) for one in planted(200, a=1, length=0,
                                                                            seed=3)]  # fmt: skip
    assert fit(rows).a == 0.0


def test_one_prompt_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="two prompts"):
        fit([Said(0.9, 1.0, group="a"), Said(0.8, 1.0, group="a")])


def test_a_mix_prefers_the_better_judge_and_weighs_none_below_nothing() -> None:
    draw = random.Random(4)
    rows, votes = [], []
    for _ in range(800):
        true = draw.gauss(0, 1.5)
        good = sigmoid(true + draw.gauss(0, 0.5))
        rows.append([good, draw.random(), sigmoid(-true)])
        votes.append(float(draw.random() < sigmoid(true)))
    weights = mix(rows, votes)
    assert weights[0] > 0.5
    assert abs(weights[1]) < 0.15
    assert weights[2] == 0.0
    there = mixed(rows[0], weights)
    assert mixed([1 - p for p in rows[0]], weights) == pytest.approx(1 - there, abs=1e-12)
    assert mix([[0.5, 0.5]], [1.0]) == [0.5, 0.5]
    with pytest.raises(ValueError, match="pairs"):
        mix([], [])


def test_powered_means_cover_the_truth_as_often_as_they_say() -> None:
    draw = random.Random(6)
    trials = 500
    for within in (False, True):
        covered = narrower = 0
        for _ in range(trials):
            everything = []
            for _ in range(400):
                p = draw.betavariate(2, 1.5)
                judged = min(1.0, max(0.0, p + draw.gauss(0.1, 0.1)))  # it flatters
                everything.append((judged, p + 0.4 * (draw.random() - 0.5)))
            labelled = everything[:80]
            said = [f for f, _ in (everything if within else everything[80:])]
            found = powered(said, [f for f, _ in labelled], [y for _, y in labelled], within=within)
            covered += found.low <= 2 / 3.5 <= found.high
            alone = mean([y for _, y in labelled])
            assert alone is not None
            narrower += found.high - found.low < alone.high - alone.low
        assert 0.93 <= covered / trials <= 0.97
        assert narrower > 0.9 * trials


def test_a_judge_that_always_says_the_same_leaves_peoples_mean() -> None:
    votes = [1.0, 0.0, 1.0, 1.0, 0.5]
    found = powered([0.7] * 50, [0.7] * 5, votes, within=True)
    alone = mean(votes)
    assert alone is not None
    assert found.value == pytest.approx(fmean(votes))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    with pytest.raises(ValueError, match="two votes"):
        powered([0.5], [0.5], [1.0], within=True)


def test_a_threshold_keeps_its_promise() -> None:
    broken = believed = 0
    for seed in range(80):
        draw = random.Random(seed)

        def rows(count: int, draw: random.Random = draw) -> tuple[list[float], list[float]]:
            said = [sigmoid(draw.gauss(0, 2.5)) for _ in range(count)]
            return said, [float(draw.random() < p) for p in said]

        found = threshold(*rows(900), rate=0.1)
        if found is None:
            continue
        believed += 1
        later = [(p, y) for p, y in zip(*rows(3000), strict=True) if abs(p - 0.5) > found.above]
        broken += fmean(1 - agreed(p, y) for p, y in later) > 0.1
    assert believed > 70
    assert broken <= 4


def test_nothing_is_believed_on_too_few_pairs_or_of_a_judge_that_guesses() -> None:
    assert threshold([0.99] * 20, [1.0] * 20, rate=0.1) is None
    draw = random.Random(0)
    said = [draw.random() for _ in range(500)]
    assert threshold(said, [float(draw.random() < 0.5) for _ in said], rate=0.1) is None
    assert threshold([0.5] * 500, [0.5] * 500, rate=0.1) is None
    assert threshold([], [], rate=0.1) is None


def test_the_watch_is_seldom_wrong_and_soon_right() -> None:
    false = 0
    seen = []
    for seed in range(400):
        draw = random.Random(seed)
        false += watch([float(draw.random() < 0.1) for _ in range(200)], 0.1).broken
        worse = [float(draw.random() < 0.4) for _ in range(200)]
        if watch(worse, 0.1).broken:
            counts = range(201)
            seen.append(bisect_left(counts, True, key=lambda n: watch(worse[:n], 0.1).broken))
    assert false / 400 <= 0.05
    assert len(seen) > 395
    assert sorted(seen)[len(seen) // 2] <= 20
    assert not watch([], 0.1).broken


def test_on_real_answers_a_naive_judge_powers_an_honest_interval(shared_data: Path) -> None:
    """AlpacaEval's judge stands for people, the longer answer for the judge: mean win rates from 80
    votes each and 805 guesses cover the published rates."""
    rows: dict[str, list[tuple[float, float]]] = {}
    with gzip.open(shared_data / "alpaca_eval/annotations.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            y = min(1.0, max(0.0, row["preference"] - 1))
            longer = dlen(row["output_2"], row["output_1"])
            rows.setdefault(row["generator_2"], []).append((longer, y))
    draw = random.Random(0)
    covered = tried = 0
    widths: list[float] = []
    for found in rows.values():
        truth = fmean(y for _, y in found)
        for _ in range(10):
            some = set(draw.sample(range(len(found)), 160))
            said = [Said(sigmoid(2 * x), y, 0.0, group=at) for at, (x, y) in enumerate(found)]
            fitted = fit([one for at, one in enumerate(said) if at in some and at % 2])
            f = [fitted(one.p) for one in said]
            lab = [at for at in sorted(some) if at % 2 == 0]
            got = powered(f, [f[at] for at in lab], [found[at][1] for at in lab], within=True)
            covered += got.low <= truth <= got.high
            alone = mean([found[at][1] for at in lab])
            assert alone is not None
            widths.append((got.high - got.low) / (alone.high - alone.low))
            tried += 1
    agreement = fmean(agreed(sigmoid(x), y) for found in rows.values() for x, y in found)
    print(f"the longer answer agrees with AlpacaEval's judge on {agreement:.1%} of pairs;")
    print(f"powered intervals cover {covered} of {tried}, {fmean(widths):.2f} as wide as votes'")
    assert covered / tried >= 0.9


def test_on_real_people_the_longer_answer_is_a_poor_judge(shared_data: Path) -> None:
    """hh-rlhf has one vote a pair: a judge can be measured there, people beside people cannot."""
    rows = []
    with gzip.open(shared_data / "hh_rlhf/harmless_base.jsonl.gz", "rt") as lines:
        for at, line in enumerate(lines):
            row = json.loads(line)
            chosen, rejected = (row[k].rpartition("Assistant:")[2] for k in ("chosen", "rejected"))
            longer = dlen(chosen, rejected) * (-1) ** at  # as often one way round as the other
            y = float(at % 2 == 0)
            rows.append((Said(sigmoid(longer), y, 0.0, group=at), Voted((y,), sigmoid(longer))))
    found = concordance([voted for _, voted in rows])
    fitted = fit([said for said, _ in rows])
    assert found.judge is not None
    print(f"the longer answer agrees with hh-rlhf's people on {found.judge.value:.1%} of pairs;")
    print(f"a = {fitted.a:.2f}; pairs with two votes: {found.pairs}")
    assert found.people is None
    assert 0.4 < found.judge.value < 0.6
    assert fitted.a < 1
