"""When a retrained reward model replaces the last one: rules on figures, worked by hand."""

from __future__ import annotations

import math
from uuid import UUID, uuid4

import pytest

from align.measure.confounds import Scored
from align.measure.intervals import Interval
from plumbline.collect.models import Ballot, Prompt
from plumbline.loop import gates, holdout, quality, rewardgate
from plumbline.loop.unseen import Vote

SAME = Interval(0.0, -0.02, 0.02, 40)


def verdict(**changes: Interval | None) -> bool:
    figures = {"accuracy": SAME, "ece": SAME, "length": SAME, **changes}
    return gates.verdict(rewardgate.checks(**figures))


def test_a_model_no_worse_in_anything_replaces_the_last_one():
    assert verdict()
    assert verdict(accuracy=Interval(-0.01, -0.05, 0.03, 40))  # a drop that may be chance


@pytest.mark.parametrize(
    "worse",
    [
        {"accuracy": Interval(-0.1, -0.2, -0.01, 40)},
        {"ece": Interval(0.1, 0.02, 0.2, 40)},
        {"length": Interval(0.3, 0.1, 0.5, 40)},
    ],
)
def test_being_surely_worse_in_one_thing_is_enough_to_be_turned_down(worse):
    assert not verdict(**worse)


def test_without_held_out_votes_of_people_the_last_model_judges_on():
    assert not verdict(accuracy=None)
    sentence = rewardgate.accuracy_kept(None).evidence
    assert sentence.endswith("the last one judges on.")


def test_the_first_model_replaces_nothing_and_passes():
    assert gates.verdict([rewardgate.first()])


def test_each_verdict_is_a_sentence_with_its_interval():
    found = rewardgate.accuracy_kept(Interval(-0.031, -0.094, 0.02, 31))
    assert found.evidence == (
        "On people's held-out votes accuracy changes by -3.1 points (95% interval -9.4 to +2.0, "
        "31 prompts); a drop must not be certain."
    )
    alone = rewardgate.calibration_kept(Interval(0.04, -math.inf, math.inf, 1))
    assert "(1 prompt: too few for an interval)" in alone.evidence
    assert alone.passed
    assert gates.record([alone])["checks"][0]["values"]["low"] is None


def prompt(digest: int) -> Prompt:
    return Prompt(messages=[], digest=f"{digest:08x}")


def test_one_prompt_in_ten_is_held_out_and_half_of_those_are_the_test_set():
    parts = [holdout.of_prompt(prompt(number)) for number in range(200)]
    assert parts.count(holdout.TEST) == parts.count(holdout.PROMPTS) == 10
    assert parts.count("") == 180


def test_an_annotator_in_ten_is_held_out_once_there_are_enough_of_them():
    cast = [Ballot(annotator_id=pk) for pk in range(200)]
    apart = holdout.annotators(cast)
    assert 5 <= len(apart) <= 40
    assert holdout.annotators(cast[: holdout.ENOUGH - 1]) == frozenset()
    assert holdout.annotators(cast + cast) == apart
    one = Ballot(annotator_id=min(apart))
    assert holdout.part(prompt(1), one, apart) == holdout.ANNOTATORS
    assert holdout.part(prompt(0), one, apart) == holdout.TEST


def vote(first: UUID, second: UUID, p: float = 1.0, **fields) -> Vote:
    settings = {"weight": 1.0, "prompt": 1, "longer": 0.0, "part": "test", "people": True}
    return Vote(first, second, p, **{**settings, "fresh": False, **fields})


def test_votes_are_told_apart_by_slice():
    good, bad = uuid4(), uuid4()
    votes = [
        vote(good, bad, prompt=1, longer=-4.0),
        vote(bad, good, 0.0, prompt=2, longer=-4.0, part="prompts", fresh=True),
        vote(bad, good, prompt=3, part="annotators", people=False),
    ]
    scores = {good: 2.0, bad: 0.0}
    found = {one["name"]: one for one in quality.slices(votes, scores)}
    assert {name: one["votes"] for name, one in found.items()} == {
        "people": 2, "test": 1, "prompts": 1, "fresh": 1, "shorter": 1, "artificial": 1,
    }  # fmt: skip
    assert found["people"]["accuracy"]["value"] == 1
    assert found["artificial"]["accuracy"]["value"] == 0


def test_the_change_is_measured_on_what_both_models_scored():
    answers = [uuid4() for _ in range(40)]
    votes = [vote(answers[k], answers[k + 1], prompt=k) for k in range(0, 40, 2)]
    ours = {answer: float(k % 2 == 0) for k, answer in enumerate(answers)}
    theirs = {answer: -score for answer, score in ours.items() if answer != answers[0]}

    def fixed(scores):
        return {
            key: Scored(str(answers.index(key) // 4), "", score, float(answers.index(key)))
            for key, score in scores.items()
        }

    change = quality.change(votes, fixed(ours), fixed(theirs), ours, theirs)
    assert change.accuracy == Interval(1.0, 1.0, 1.0, 19)
    assert change.apart is not None
    assert change.apart.starc.value == pytest.approx(1)
    assert change.apart.tau == pytest.approx(-1)
    assert change.json()["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0, "prompts": 19}


def test_the_temperature_is_found_away_from_the_test_votes_and_used_in_every_figure():
    votes, scores = [], {}
    for k in range(2000):
        good, bad = uuid4(), uuid4()
        votes.append(vote(good, bad, float(k % 4 > 0), prompt=k, part="prompts"))
        scores |= {good: 5.0, bad: 0.0}
    votes.append(vote(good, bad, prompt=2000))
    temperature = quality.temperature(votes, scores)
    assert temperature == pytest.approx(5 / math.log(3), rel=0.02)  # 3 of 4
    found = quality.report(votes, scores, {}, temperature)
    assert found["test_ece"] == pytest.approx(0.25, abs=0.01)
    assert found["test_ece_raw"] == pytest.approx(1 - 1 / (1 + math.exp(-5)))
    assert found["ece"] < 0.01 < 0.2 < found["ece_raw"]
    assert [one["confidence"] for one in found["reliability"]] == [pytest.approx(0.75, abs=0.01)]
    assert [one["confidence"] for one in found["reliability_raw"]] == [
        pytest.approx(0.9933, abs=1e-4)
    ]
    people = next(one for one in found["slices"] if one["name"] == "people")
    assert people["ece"] == found["ece"]
    assert found["length"] is None


def test_what_many_people_say_of_one_pair_is_one_piece_of_evidence_for_the_temperature():
    pairs = [(uuid4(), uuid4()) for _ in range(8)]
    scores = {key: score for good, bad in pairs for key, score in ((good, 4.0), (bad, 0.0))}
    single = [vote(*pair, 0.6, part="prompts") for pair in pairs]
    crowd = [vote(*pair, 0.6, part="prompts", weight=50.0) for pair in pairs]
    assert quality.temperature(crowd, scores) == quality.temperature(single, scores)
    split = [  # the same of every pair, by a held-out annotator and others, in either order
        part
        for good, bad in pairs
        for part in (
            vote(good, bad, 0.5, part="prompts", weight=4.0),
            vote(bad, good, 0.0, part="annotators"),
        )
    ]
    assert quality.temperature(split, scores) == pytest.approx(quality.temperature(single, scores))
    assert quality.temperature([vote(*pairs[0], weight=0.0, part="prompts")], scores) == 1.0
