"""Win rates and their intervals against hand-worked numbers, exact coverage and a leaderboard."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import NormalDist

import pytest

from plumbline.loop.winrate import WinRate, bootstrap, count, soft_rate

TWO_SIGMA = 2 * NormalDist().cdf(2) - 1  # the confidence whose z is 2


def test_a_tie_counts_half() -> None:
    assert WinRate(3, 2, 5).rate == 0.4
    assert WinRate(0, 4, 0).rate == 0.5


def test_without_ties_it_is_the_wilson_interval() -> None:
    # 8 of 10, Wilson 1927: (0.4902, 0.9433).
    assert WinRate(8, 0, 2).interval() == pytest.approx((0.49016, 0.94332), abs=1e-5)
    # z = 2 and n = 4: (1/2 + 1/2 -+ sqrt(1/4 + 1/4)) / 2.
    half = math.sqrt(0.5) / 2
    assert WinRate(2, 0, 2).interval(TWO_SIGMA) == pytest.approx((0.5 - half, 0.5 + half))


def test_ties_narrow_it_as_their_variance_says() -> None:
    # z = 2, n = 4, two ties: tie share 2 / (4 + 4), so the root is of 0.1875 + 0.1875.
    half = math.sqrt(0.375) / 2
    assert WinRate(1, 2, 1).interval(TWO_SIGMA) == pytest.approx((0.5 - half, 0.5 + half))


def test_a_few_ties_are_not_certainty() -> None:
    low, high = WinRate(0, 3, 0).interval()
    assert low < 0.35
    assert high > 0.65
    many = WinRate(0, 3000, 0).interval()
    assert many == pytest.approx((0.5, 0.5), abs=0.02)


def test_nothing_compared_says_nothing() -> None:
    assert WinRate(0, 0, 0).rate == 0.5
    assert WinRate(0, 0, 0).interval() == (0.0, 1.0)


@pytest.mark.parametrize("outcomes", [(1, 0, 0), (0, 0, 1), (0, 1, 0), (400, 0, 1), (7, 9, 2)])
def test_the_interval_holds_the_rate_and_stays_in_bounds(outcomes: tuple[int, int, int]) -> None:
    rate = WinRate(*outcomes)
    low, high = rate.interval()
    assert 0 <= low <= rate.rate <= high <= 1


def test_the_two_sides_mirror_each_other() -> None:
    low, high = WinRate(7, 5, 2).interval()
    assert WinRate(2, 5, 7).interval() == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("win", "tie"), [(0.5, 0.0), (0.4, 0.3), (0.2, 0.6), (0.7, 0.2), (0.1, 0.1), (0.05, 0.9)]
)
@pytest.mark.parametrize("n", [20, 60])
def test_it_covers_the_truth_as_often_as_it_promises(win: float, tie: float, n: int) -> None:
    """The exact trinomial probability that the 95% interval holds the true rate."""
    truth, covered = win + tie / 2, 0.0
    for w in range(n + 1):
        for t in range(n - w + 1):
            low, high = WinRate(w, t, n - w - t).interval()
            if low <= truth <= high:
                ways = math.comb(n, w) * math.comb(n - w, t)
                covered += ways * win**w * tie**t * (1 - win - tie) ** (n - w - t)
    assert covered > 0.92


def test_probabilities_become_outcomes() -> None:
    assert count([0.9, 0.5, 0.2, 1.0]) == WinRate(2, 1, 1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        count([1.5])


def test_impossible_counts_and_confidences_are_refused() -> None:
    with pytest.raises(ValueError, match="none can be negative"):
        WinRate(-1, 0, 0)
    with pytest.raises(ValueError, match="confidence"):
        WinRate(1, 0, 0).interval(1.0)


def test_the_soft_rate_is_mean_and_standard_error() -> None:
    # Mean 1/2; squared deviations 1/4, 0, 1/4; variance 1/4 over n - 1; error 1/2 over root 3.
    assert soft_rate([0.0, 0.5, 1.0]) == pytest.approx((0.5, 0.5 / math.sqrt(3)))


def test_the_bootstrap_resamples_whole_prompts() -> None:
    alike = bootstrap([[1.0], [0.0]] * 50)
    # Ten copies of the same outcome add no evidence: the interval is the same.
    assert bootstrap([[1.0] * 10, [0.0] * 10] * 50) == alike
    assert alike == pytest.approx((0.4, 0.6), abs=0.03)
    assert bootstrap([[1.0], [0.0]] * 50, seed=0) == alike
    with pytest.raises(ValueError, match="at least one outcome"):
        bootstrap([[1.0], []])


def test_published_win_rates_are_reproduced(shared_data: Path) -> None:
    alpaca = shared_data / "alpaca_eval"
    judged: dict[str, list[float]] = defaultdict(list)
    with gzip.open(alpaca / "annotations.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            judged[row["generator_2"]].append(row["preference"] - 1)
    with (alpaca / "leaderboard.csv").open(newline="") as table:
        published = {row["model"]: row for row in csv.DictReader(table)}
    assert len(published) == 16
    for model, row in published.items():
        rate, error = soft_rate(judged[model])
        assert 100 * rate == pytest.approx(float(row["win_rate"]), abs=1e-9)
        assert 100 * error == pytest.approx(float(row["standard_error"]), abs=1e-9)
        outcome = count(judged[model])
        assert outcome.wins == int(row["n_wins"]), model
        assert outcome.losses == int(row["n_wins_base"]), model
        assert 100 * outcome.rate == pytest.approx(float(row["discrete_win_rate"]), abs=1e-9)
