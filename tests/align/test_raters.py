"""Simulated raters: their tastes, their noise and their ties are what they declare."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import pytest

from align.demo.raters import (
    CYCLIC,
    GOLD,
    PANEL,
    Rater,
    features,
    gold,
    gold_win,
    style,
    truth,
    utility,
)
from align.jobs import Message

ASKED: list[Message] = [{"role": "user", "content": "What does a panda eat?"}]
RIGHT = "A panda eats bamboo."
WRONG = "A panda eats fish."
KIND = "Thank you for asking! A panda eats bamboo."
CURT = "A panda eats bamboo. Look it up next time."
FLOWERY = "Behold a panda, a shimmering dream! It feasts upon bamboo at a golden banquet."
LIST = "About a panda:\n- Food: bamboo\n- Home: mountain forests\n- Young: cub"


def test_a_right_fact_is_true_and_a_wrong_one_is_not() -> None:
    assert truth(ASKED[0]["content"], RIGHT) == 1
    assert truth(ASKED[0]["content"], WRONG) == -1
    assert truth(ASKED[0]["content"], "A panda eats bamboo and fish.") == -1
    assert truth(ASKED[0]["content"], "A panda lives in mountain forests.") == 0
    assert truth(ASKED[0]["content"], LIST.replace("cub", "foal")) == pytest.approx(1 / 3)
    assert truth("What is the meaning of life?", RIGHT) == 0


def test_a_question_typed_in_another_way_is_still_known() -> None:
    assert truth("what does a panda eat", RIGHT) == 1
    assert truth("I met a panda yesterday. What is its food?", WRONG) == -1


@pytest.mark.parametrize(
    ("better", "worse", "name"),
    [
        (RIGHT, WRONG, "truth"),
        (KIND, CURT, "politeness"),
        (RIGHT, FLOWERY, "plainness"),
        (RIGHT, FLOWERY, "brevity"),
        (LIST, RIGHT, "list"),
    ],
)
def test_each_feature_tells_two_answers_apart(better: str, worse: str, name: str) -> None:
    assert features(ASKED, better)[name] > features(ASKED, worse)[name]


def test_the_gold_utility_is_the_average_of_the_panel() -> None:
    for text in (RIGHT, WRONG, KIND, CURT, FLOWERY, LIST, ""):
        mean = sum(utility(rater.taste, ASKED, text) for rater in PANEL) / len(PANEL)
        assert gold(ASKED, text) == pytest.approx(mean)
    assert set(GOLD) == set(features(ASKED, ""))


def test_gold_wins_are_one_half_and_nought() -> None:
    assert gold_win(ASKED, RIGHT, WRONG) == 1
    assert gold_win(ASKED, WRONG, RIGHT) == 0
    assert gold_win(ASKED, RIGHT, RIGHT) == 0.5


def test_the_same_seed_gives_the_same_vote() -> None:
    texts = [RIGHT, WRONG, KIND, FLOWERY]
    for rater in (*PANEL, CYCLIC):
        votes = [rater.vote(ASKED, texts, random.Random(7)) for _ in range(2)]
        assert votes[0] == votes[1]


def test_every_answer_is_ranked_once() -> None:
    texts = [RIGHT, WRONG, KIND, FLOWERY, LIST]
    for rater in (*PANEL, CYCLIC):
        for seed in range(50):
            vote = rater.vote(ASKED, texts, random.Random(seed))
            assert sorted(i for group in vote.ranking for i in group) == list(range(5))
            assert vote.verdict == "ok"
            assert vote.strength in (1, 2, 3)


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("lapse", [0.0, 0.2])
def test_measured_choices_follow_the_declared_noise(noise: float, lapse: float) -> None:
    rater = Rater(name="r", taste={"truth": 0.4}, noise=noise, lapse=lapse, tie_width=0.0)
    rng = random.Random(5)
    games = 4000
    wins = sum(rater.vote(ASKED, [WRONG, RIGHT], rng).ranking[0] == [1] for _ in range(games))
    expected = lapse / 2 + (1 - lapse) / (1 + math.exp(-0.8 / noise))
    assert rater.preference(ASKED, RIGHT, WRONG) == pytest.approx(expected)
    assert abs(wins / games - expected) < 4 * math.sqrt(0.25 / games)


def test_three_answers_are_ranked_as_plackett_and_luce_say() -> None:
    """The best of three is first with its softmax share."""
    rater = Rater(name="r", taste={"truth": 1.0}, noise=1.0, lapse=0.0, tie_width=0.0)
    rng = random.Random(6)
    texts = [RIGHT, WRONG, "I do not know."]
    first = [rater.vote(ASKED, texts, rng).ranking[0][0] for _ in range(4000)]
    share = math.exp(1) / (math.exp(1) + math.exp(-1) + 1)
    assert abs(first.count(0) / 4000 - share) < 0.03


def test_close_answers_are_called_equal_as_often_as_the_width_says() -> None:
    rater = Rater(name="r", taste={"truth": 1.0}, noise=0.5, lapse=0.0, tie_width=0.3)
    rng = random.Random(8)
    votes = [rater.vote(ASKED, [RIGHT, KIND], rng) for _ in range(3000)]
    ties = sum(vote.ranking in ([[0, 1]], [[1, 0]]) for vote in votes) / 3000
    # The difference of the two noises is logistic with scale 0.5.
    assert abs(ties - (2 / (1 + math.exp(-0.3 / 0.5)) - 1)) < 0.035


def test_a_rater_with_standards_calls_hopeless_answers_all_bad() -> None:
    rater = Rater(name="r", taste={"truth": 1.0}, all_bad_below=0.0)
    vote = rater.vote(ASKED, [WRONG, WRONG + " Really?"], random.Random(1))
    assert (vote.verdict, vote.ranking) == ("all_bad", [])
    assert rater.vote(ASKED, [WRONG, RIGHT], random.Random(1)).verdict == "ok"


def test_the_panel_mostly_agrees_with_gold_but_not_always() -> None:
    rng = random.Random(9)
    texts = [RIGHT, WRONG, KIND, CURT, FLOWERY, LIST]
    agree = games = 0
    for rater in PANEL:
        for _ in range(300):
            i, j = rng.sample(range(len(texts)), 2)
            vote = rater.vote(ASKED, [texts[i], texts[j]], rng)
            if len(vote.ranking) == 2:
                games += 1
                agree += gold_win(ASKED, texts[i], texts[j]) == (vote.ranking[0] == [0])
    assert 0.65 < agree / games < 0.95


def test_the_cyclic_taste_goes_round() -> None:
    assert [style(text) for text in (RIGHT, FLOWERY, LIST)] == ["plain", "flowery", "list"]
    for better, worse in ((RIGHT, FLOWERY), (FLOWERY, LIST), (LIST, RIGHT)):
        assert CYCLIC.preference(ASKED, better, worse) == 0.9
        assert CYCLIC.preference(ASKED, worse, better) == pytest.approx(0.1)
        rng = random.Random(2)
        wins = sum(CYCLIC.vote(ASKED, [better, worse], rng).ranking[0] == [0] for _ in range(1000))
        assert abs(wins / 1000 - 0.9) < 0.05


def test_no_utility_explains_the_cyclic_taste() -> None:
    """Around the cycle the log-odds of a Bradley-Terry taste sum to nought; these do not."""
    around = ((RIGHT, FLOWERY), (FLOWERY, LIST), (LIST, RIGHT))
    odds = [CYCLIC.preference(ASKED, a, b) for a, b in around]
    assert sum(math.log(p / (1 - p)) for p in odds) == pytest.approx(3 * math.log(9))
    rater = PANEL[0]
    fair = Rater(name="r", taste=rater.taste, lapse=0.0)
    odds = [fair.preference(ASKED, a, b) for a, b in around]
    assert sum(math.log(p / (1 - p)) for p in odds) == pytest.approx(0, abs=1e-9)


def test_importing_the_raters_loads_no_torch() -> None:
    code = "import sys, align.demo.raters, align.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
