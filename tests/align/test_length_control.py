"""Win rates at equal lengths: their symmetries, planted tastes, and a published leaderboard."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pytest

from align.measure.length_control import common_slope, controlled, difficulties
from align.measure.pairs import sigmoid

# Points by which a published rate may be off. The published ones use a table of difficulties and
# two rewritten baselines that are not among these data; without any difficulty the
# largest difference is 12 points or more, with those of `difficulties` it is 4.9, the mean 2.1.
WORST, MEAN = 5.5, 2.5


def voted(draw: random.Random, quality: float, taste: float, count: int = 600):
    """Votes of people who want quality, and length for its own sake."""
    longer = [draw.gauss(150, 300) for _ in range(count)]
    shares = [float(draw.random() < sigmoid(quality + taste * one / 300)) for one in longer]
    return shares, longer


def test_a_preference_for_length_alone_is_worth_a_half() -> None:
    shares, longer = voted(random.Random(1), 0.0, 2.5)
    found = controlled(shares, longer, pull=0.0)
    assert found.raw > 0.57
    assert found.rate == pytest.approx(0.5, abs=0.05)
    assert found.low < 0.5 < found.high


def test_where_length_is_worth_nothing_nothing_changes() -> None:
    shares, longer = voted(random.Random(2), 0.8, 0.0)
    found = controlled(shares, longer)
    assert found.rate == pytest.approx(found.raw, abs=0.02)
    assert abs(found.slope) < 0.4


def test_identical_answers_are_half_and_turned_roles_mirror() -> None:
    even = controlled([0.5] * 20, [0.0] * 20)
    assert (even.rate, even.raw) == (0.5, 0.5)
    shares, longer = voted(random.Random(4), 0.6, 1.0, 200)
    hard = [random.Random(5).gauss(0, 1) for _ in shares]
    one = controlled(shares, longer, hard, slope=0.7)
    other = controlled([1 - p for p in shares], [-x for x in longer], [-h for h in hard], slope=0.7)
    assert one.rate == pytest.approx(1 - other.rate, abs=1e-6)
    assert one.low == pytest.approx(1 - other.high, abs=1e-6)


def test_the_interval_covers_what_was_planted() -> None:
    draw, covered, runs = random.Random(6), 0, 60
    for _ in range(runs):
        found = controlled(*voted(draw, 0.7, 1.0, 250), pull=0.0)
        covered += found.low <= sigmoid(0.7) + 0.005 and found.high >= sigmoid(0.7) - 0.005
    assert covered / runs > 0.88


def test_hard_prompts_are_found_where_all_players_lose() -> None:
    draw = random.Random(7)
    truth = {prompt: draw.gauss(0, 1.5) for prompt in range(150)}
    players = {
        name: {
            prompt: (float(draw.random() < sigmoid(level + hard)), draw.gauss(0, 100))
            for prompt, hard in truth.items()
        }
        for name, level in (("a", -1.0), ("b", 0.0), ("c", 0.5), ("d", 1.0), ("e", 0.2))
    }
    found = difficulties(players)
    ordered = sorted(truth, key=lambda prompt: found[prompt])
    lower = sum(truth[prompt] for prompt in ordered[:50]) / 50
    upper = sum(truth[prompt] for prompt in ordered[-50:]) / 50
    assert upper - lower > 1.5


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="two meetings or more"):
        controlled([1.0], [3.0])
    with pytest.raises(ValueError, match="each with a length"):
        controlled([1.0, 0.0], [3.0])
    assert common_slope([]) == 0.0


def test_published_rates_at_equal_lengths_are_met_within_a_few_points(shared_data: Path) -> None:
    alpaca = shared_data / "alpaca_eval"
    rows: dict[str, dict[int, tuple[float, float]]] = {}
    with gzip.open(alpaca / "annotations.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            share = min(1.0, max(0.0, row["preference"] - 1))
            longer = float(len(row["output_2"]) - len(row["output_1"]))
            rows.setdefault(row["generator_2"], {})[row["index"]] = (share, longer)
    with (alpaca / "leaderboard.csv").open(newline="") as table:
        published = {
            row["model"]: float(row["length_controlled_winrate"]) for row in csv.DictReader(table)
        }
    hard = difficulties(rows)
    columns = {
        model: (
            [share for share, _ in some.values()],
            [longer for _, longer in some.values()],
            [hard[index] for index in some],
        )
        for model, some in rows.items()
    }
    slope = common_slope(list(columns.values()))
    ours = {model: 100 * controlled(*column, slope=slope).rate for model, column in columns.items()}
    off = [abs(ours[model] - rate) for model, rate in published.items()]
    assert len(off) == 16
    assert max(off) < WORST
    assert sum(off) / len(off) < MEAN
    # The order is the published one but for neighbours that are closer than the tolerance.
    for one, higher in published.items():
        for other, lower in published.items():
            if higher - lower > WORST:
                assert ours[one] > ours[other], (one, other)
