"""The alignment bench: its statistics by hand, its world the same for every arm, its tables."""

from __future__ import annotations

import math
import random

import pytest

from align import jobs
from align.demo import prompts
from align.jobs import ModelRef
from tests.bench.alignment import arms, intervals, report, world
from tests.bench.alignment.rounds import Asked, relabel_accuracy, seen_alone
from tests.bench.alignment.workshop import Workshop
from tests.bench.alignment.world import Reply


def reply(text: str) -> Reply:
    return Reply(text, tuple(range(len(text))), "stop")


def test_an_interval_over_seeds_is_students():
    found = intervals.across_seeds([0.70, 0.74, 0.72, 0.76, 0.68])
    assert found.mean == pytest.approx(0.72)
    # s = 0.0316, t(4) = 2.776: 2.776 * 0.0316 / sqrt(5)
    assert found.high - found.mean == pytest.approx(2.776 * 0.031623 / math.sqrt(5), abs=1e-5)


def test_one_seed_has_no_interval():
    assert math.isnan(intervals.across_seeds([0.7]).low)


def test_a_difference_is_taken_seed_by_seed():
    found = intervals.difference([0.8, 0.7, 0.9], [0.7, 0.6, 0.8])
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)


def test_equal_utilities_are_half_a_win():
    assert intervals.win_rate([1.0, 2.0], [1.0]) == 0.75


@pytest.mark.parametrize(
    ("shares", "gap"), [((1, 0, 0), 0.8), ((1 / 3, 1 / 3, 1 / 3), 0.0), ((0, 0.5, 0.5), 0.4)]
)
def test_the_gap_of_a_mixed_strategy_in_the_circle_of_tastes(shares, gap):
    assert intervals.duality_gap(shares, world.CYCLE.matrix) == pytest.approx(gap)


def test_people_are_asked_about_other_questions_in_every_round():
    rounds = [world.training_questions(3, number, 200, 600) for number in (1, 2, 3)]
    asked = [set(one[:200]) for one in rounds]
    assert len(set.union(*asked)) == 600
    assert all(len(set(one)) == 600 for one in rounds)
    assert not set(world.heldout_questions(50)) & set(rounds[0])


def test_a_vote_depends_on_the_seed_the_question_and_the_answers_alone():
    question = prompts.texts("train")[0]
    answers = [reply(text) for text in ("Yes.", "Thank you, yes.", "Behold, a golden dream.")]
    votes = [world.vote(world.LABELLER, question, answers, seed) for seed in range(30)]
    again = [world.vote(world.LABELLER, question, answers, seed) for seed in range(30)]
    assert votes == again
    assert len({(vote.i, vote.j) for (vote,) in votes}) == 3


def test_equal_answers_are_shown_to_nobody():
    assert world.vote(world.LABELLER, "What?", [reply("Same."), reply("Same.")], 1) == ()


def test_a_reward_model_sees_no_answer_that_nobody_compared():
    row = {"id": "0", "responses": ["a", "b", "c", "d"], "preferences": [(1, 3, 1.0, 1.0)]}
    assert seen_alone(row) == {
        "id": "0",
        "responses": ["b", "d"],
        "preferences": [(0, 1, 1.0, 1.0)],
    }


def test_relabelling_is_judged_by_the_gold_utility():
    question = prompts.texts("train")[0]
    answers = [reply("Thank you for asking, please."), reply("Behold! A golden radiant dream.")]
    gold = [world.gold(question, one) for one in answers]
    assert gold[0] != gold[1]
    asked = [Asked(question, tuple(answers), ("policy", "policy"), ())]
    assert relabel_accuracy(asked, [gold]) == 1
    assert relabel_accuracy(asked, [gold[::-1]]) == 0


class Counted:
    """A sampler that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def draw(self, policy, questions, n, temperature, seed):
        self.calls += 1
        rng = random.Random(seed)
        return [[reply(f"{question} {rng.random()}") for _ in range(n)] for question in questions]


def test_what_two_arms_have_in_common_is_drawn_once(tmp_path):
    sampler = Counted()
    policy = ModelRef(base="base")
    first = Workshop(tmp_path, sampler).draw(policy, ["a", "b"], 2, 1.0, 7)
    assert Workshop(tmp_path, sampler).draw(policy, ["a", "b"], 2, 1.0, 7) == first
    assert sampler.calls == 1
    Workshop(tmp_path, sampler).draw(policy, ["a", "b"], 2, 1.0, 8)
    assert sampler.calls == 2


def test_a_job_that_was_done_is_not_done_again(tmp_path, tiny_base):
    workshop = Workshop(tmp_path, Counted())
    items = [
        {"id": "0", "messages": [{"role": "user", "content": "q"}], "response": world_response("a")}
    ]
    job = jobs.ScoreJob(policies={"base": ModelRef(base=str(tiny_base))})
    first = workshop.do(job, {jobs.ITEMS: items})
    stamp = (first["folder"] / jobs.RESULT).stat().st_mtime_ns
    assert workshop.do(job, {jobs.ITEMS: items})["folder"] == first["folder"]
    assert (first["folder"] / jobs.RESULT).stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [first["folder"].name]


def world_response(text: str) -> dict[str, object]:
    return {"id": "", "text": text, "token_ids": None, "finish_reason": "stop"}


def measured(table: str, arm: str, seed: int, rate: float) -> dict[str, object]:
    figures = dict.fromkeys(report.FIGURES, 0.5) | {"gold_win_rate": rate}
    return {
        "table": table, "arm": arm, "seed": seed, "labels": 600, "rounds": [figures] * 3,
        "explored": 10, "seconds": 1.0,
    }  # fmt: skip


def test_what_one_seed_cannot_tell_is_null_in_the_json():
    assert report.plain({"low": math.nan, "rows": [{"high": math.nan, "mean": 0.5}]}) == {
        "low": None,
        "rows": [{"high": None, "mean": 0.5}],
    }


def test_the_result_names_the_best_arm_and_the_page_shows_every_arm(tmp_path):
    found = [
        measured(table, arm.name, seed, 0.6 + 0.01 * seed + 0.1 * (arm.name == "SPPO"))
        for table, chosen in (("methods", arms.METHODS), ("cyclic", arms.CYCLIC))
        for arm in chosen
        for seed in (1, 2, 3)
    ]
    result = report.result(found, None, {"gap": 0.27, "at_temperature": {"0.5": 0.61}})
    assert (result["best"], result["labels"]) == ("SPPO", 600)
    assert result["best_gold_win_rate"] == pytest.approx(0.72)
    assert result["low"] < 0.72 < result["high"]
    assert result["online_less_offline"]["mean"] == pytest.approx(0.0, abs=1e-9)
    page = tmp_path / "alignment.md"
    both = "<!-- {0}: start -->\n{0} before\n<!-- {0}: end -->\n"
    page.write_text(f"Before.\n{both.format('alignment')}{both.format('ablation')}After.\n")
    report.write(page, result)
    text, picture = page.read_text(), page.with_suffix(".svg").read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "alignment before" not in text
    assert "ablation before" in text
    for arm in arms.METHODS:
        assert arm.name in text
        assert arm.name in picture


def test_an_ablation_has_a_place_and_a_picture_of_its_own(tmp_path):
    chosen = (("methods", (arms.OFFLINE, arms.ONLINE)), ("ablation", arms.ABLATION))
    found = [measured(table, arm.name, 1, 0.6) for table, several in chosen for arm in several]
    result = report.result(found, None, {"gap": 0.27, "at_temperature": {}})
    page = tmp_path / "alignment.md"
    page.write_text("<!-- ablation: start -->\n<!-- ablation: end -->\n")
    report.write(page, result)
    picture = (tmp_path / "ablation.svg").read_text()
    for arm in arms.ABLATION:
        assert arm.name in page.read_text()
        assert arm.name in picture
    assert not (tmp_path / "alignment.svg").exists()


def test_people_see_contrasting_answers_on_half_of_the_questions():
    answers = [reply(text) for text in ("One.", "Two.", "Three.", "Four.", "One.")]
    questions = prompts.texts("train")[:200]
    seen = [world.vote(world.LABELLER, q, answers, 1, contrast=(3, 1))[0] for q in questions]
    contrasting = sum((vote.i, vote.j) == (1, 3) for vote in seen)
    assert 90 <= contrasting <= 145  # a half, and a sixth of the rest by chance
    assert {vote.j for vote in seen} <= {1, 2, 3}  # of equal answers the first alone
