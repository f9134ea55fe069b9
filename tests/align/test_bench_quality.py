"""The benches of reward quality and over-optimisation: what they read, and when they say yes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import overopt, reward_quality
from tests.bench.alignment import world
from tests.bench.alignment.sampler import Sampler
from tests.bench.alignment.workshop import Workshop
from tests.bench.overopt import Size
from tests.bench.quality import best_of, followed, page, proxies, sides, sources
from tests.bench.quality.best_of import Answers
from tests.bench.quality.followed import Rounds
from tests.bench.quality.proxies import ALONE, READINGS, Recipe, noisy

TINY = Recipe(labels=12, members=2, doubted=4, epochs=1)


def row(source: str, side: str, high: float, ece: float, labels: int = 10) -> dict[str, Any]:
    gap = {"value": 0.0, "low": -1.0, "high": high, "groups": 3}
    return {
        "source": source, "side": side, "labels": labels, "ece": ece, "error": ece,
        "against_trl": gap, "log_loss_against_trl": gap, "brier_against_trl": gap,
        "ece_against_trl": gap, "error_against_trl": gap,
        "accuracy": {"value": 0.6, "low": 0.5, "high": 0.7}, "log_loss": 0.6, "tempered_ece": 0.1,
    }  # fmt: skip


def test_met_needs_no_count_surely_below_trl_and_better_calibration() -> None:
    theirs = [row(source, "TRL", 0.0, 0.2) for source in "ab"]
    good = [row(source, "bradley_terry", 0.1, 0.1) for source in "ab"]
    assert reward_quality.met([*theirs, *good])
    below = row("a", "bradley_terry", -0.01, 0.0, labels=5)
    assert not reward_quality.met([*theirs, *good, below])
    vain = [row(source, "bradley_terry", 0.1, 0.3) for source in "ab"]
    assert not reward_quality.met([*theirs, *vain])
    by_chance = [{**one, "error": 0.3} for one in good]  # better by the plain error alone
    assert not reward_quality.met([*theirs, *by_chance])


def test_two_transcripts_are_the_turns_they_share_and_two_answers(tmp_path: Path) -> None:
    start = "\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: A joke?\n\nAssistant: "
    rows = [
        {"chosen": start + "Yes.", "rejected": start + "No."},
        {"chosen": start + "Same.", "rejected": start + "Same."},
    ]
    path = tmp_path / "hh.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(one) + "\n" for one in rows)
    ((messages, chosen, rejected),) = sources.transcripts(path)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert (chosen, rejected) == ("Yes.", "No.")


def test_votes_that_the_data_has_twice_count_once() -> None:
    rows = [([{"role": "user", "content": f"Question {k}?"}], "Yes.", "No.") for k in range(12)]
    found = sources.split("twice", [*rows, *rows], 24, 24)
    ids = [one.id for part in (found.trained, found.heldout) for one in part]
    assert len(ids) == len(set(ids)) == 12


def test_two_draws_of_real_votes_hold_out_every_prompt_once() -> None:
    rows = [([{"role": "user", "content": f"Question {k}?"}], "Yes.", "No.") for k in range(40)]
    first, second = (sources.split("real", rows, 40, 40, draw) for draw in (0, 1))
    assert {one.id for one in first.heldout} == {one.id for one in second.trained}
    assert {one.id for one in second.heldout} == {one.id for one in first.trained}
    assert first.heldout
    assert second.heldout


def test_our_figures_are_at_the_temperature_that_our_own_votes_gave(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, Sampler(world.BASE.base))
    home = sources.simulated(workshop, 12, 4)
    done = sides.made(sides.OURS, workshop, home.trained)
    raw = sides.margins(workshop, done["weights"], home.heldout)
    seen = sides.learn(sides.OURS, workshop, home.trained, home.heldout)
    assert done["temperature"] != 1
    assert [one.margin * done["temperature"] for one in seen] == pytest.approx(
        [one.margin for one in raw]
    )


def test_how_many_answers_are_scored_a_minute_is_measured_on_the_products_own_job(
    tmp_path: Path,
) -> None:
    workshop = Workshop(tmp_path, Sampler(world.BASE.base))
    home = sources.simulated(workshop, 6, 20)
    weights = sides.made(sides.PROBE, workshop, home.trained)["weights"]
    found = reward_quality.scoring(weights, home.heldout)
    assert found["answers"] == 40
    assert found["again_per_cpu_minute"] > found["per_cpu_minute"]  # they are in the cache


def picked(worth: float) -> dict[str, Any]:
    """Each member overrates one answer of its own by 20; every reading sees the truth."""
    found = {}
    for prompt in range(20):
        gold = [worth * k for k in range(8)]
        alone = [[value + 20.0 * (k == who) for k, value in enumerate(gold)] for who in range(5)]
        scores = {ALONE: alone * 2, **{name: [gold] * 2 for name in READINGS}}
        worlds = [prompt % 3, 3]
        found[str(prompt)] = Answers([str(k) for k in range(8)], gold, scores, worlds)
    return best_of.report(found, 8)


def followed_run(seed: int, reading: str, member: int, ends: float) -> dict[str, Any]:
    rounds = [
        {"gold": 1.0 + ends * k / 2, "kl": float(k * k), "kl_k3": 0.0, "gold_win_rate": 0.5}
        for k in range(3)
    ]
    return {"seed": seed, "reading": reading, "member": member, "rounds": rounds}


def followed_by(gain: float) -> dict[str, Any]:
    """Three seeds: the single model ends 0.3 up, a reading by `gain` more."""
    return followed.report(
        [
            followed_run(seed, name, member, 0.3 + 0.01 * seed + gain * (name != ALONE))
            for seed in (1, 2, 3)
            for name in (ALONE, *followed.READINGS)
            for member in range(2 if name == ALONE else 1)
        ]
    )


def test_an_ensemble_that_sees_through_its_members_flaws_is_found_to_be_better() -> None:
    result = overopt.report(picked(1.0), followed_by(0.4), Recipe(labels=1), Rounds())
    assert (result["met"], result["apart"], result["paired"]) == (1, [True, True], [True, True])
    last = {one["reading"]: one for one in result["best_of_n"]["rows"] if one["n"] == 8}
    assert last["worst case"]["gold"]["value"] == pytest.approx(3.5)
    assert last[ALONE]["gold"]["value"] == pytest.approx(2 - 3.5)
    assert last[ALONE]["proxy"] > last[ALONE]["gold"]["value"]
    worst = result["best_of_n"]["readings"]["worst case"]
    assert worst["by_world"] == pytest.approx([3.5] * 4)
    assert worst["over_worlds"]["mean"] == pytest.approx(5.0)
    mean = result["rounds"]["readings"][overopt.CHOSEN]
    assert mean["against_single"]["mean"] == pytest.approx(0.4)
    assert mean["same_kl"]["mean"] == pytest.approx(0.4)
    tables = page.overopt_tables(result)
    assert "| worst case |" in tables
    assert "| yes |" in tables
    assert page.overopt_picture(result).startswith("<svg")


def test_the_goal_is_missed_where_policies_trained_by_an_ensemble_are_no_better() -> None:
    result = overopt.report(picked(1.0), followed_by(0.0), Recipe(labels=1), Rounds())
    assert (result["met"], result["apart"]) == (0, [True, False])
    assert "| no |" in page.overopt_tables(result)


def test_a_run_that_collapses_is_reported_with_its_last_figures_and_not_raised() -> None:
    rounds = iter([{"gold": 2.0, "kl": 4.0, "kl_k3": 4.0, "gold_win_rate": 0.7}])

    def advance() -> dict[str, Any]:
        for one in rounds:
            return one
        raise ValueError("all answers are alike")

    start = {"gold": 1.0, "kl": 0.0, "kl_k3": 0.0, "gold_win_rate": 0.5}
    run = list(followed.until_it_collapses(start, advance, 3))
    assert [one["gold"] for one in run] == [1.0, 2.0, 2.0, 2.0]
    assert [one.get("collapse") for one in run] == [None, None, *["all answers are alike"] * 2]
    single = {"seed": 1, "reading": ALONE, "member": 0, "rounds": run}
    found = followed.report([{**single, "reading": name} for name in (ALONE, *followed.READINGS)])
    assert [row["collapsed"] for row in found["rows"] if row["reading"] == ALONE] == [0, 0, 1, 1]
    tables = page.overopt_tables(overopt.report(picked(1.0), found, Recipe(labels=1), Rounds()))
    assert "| 1 of 1 |" in tables


def test_a_prompt_is_judged_in_several_worlds_in_turn_by_each_ones_members(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, Sampler(world.BASE.base))
    worlds = [proxies.train(workshop, seed, TINY) for seed in (1, 2, 3)]
    found = best_of.drawn(workshop, worlds, world.heldout_questions(3), 4, 2)
    assert [list(one.worlds) for one in found.values()] == [[0, 1], [1, 2], [0, 2]]
    first, last = list(found.values())[0], list(found.values())[2]
    assert len(first.scores[ALONE]) == 2 * TINY.members
    assert len(first.scores["mean"]) == 2
    items = [
        {
            "id": str(k),
            "messages": world.messages(world.heldout_questions(3)[2]),
            "response": {"id": "", "text": text, "token_ids": None, "finish_reason": "stop"},
        }
        for k, text in enumerate(last.texts)
    ]
    third = worlds[2].said(items).T.tolist()
    for mine, theirs in zip(last.scores[ALONE][TINY.members :], third, strict=True):
        assert sorted(range(4), key=mine.__getitem__) == sorted(range(4), key=theirs.__getitem__)


def test_questions_whose_answers_are_drawn_already_are_not_drawn_again_for_more_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_of, "PORTION", 2)
    workshop = Workshop(tmp_path, Sampler(world.BASE.base))
    questions = [world.heldout_questions(1)[0]] * 4
    two = best_of.drawn_in_portions(workshop, questions[:2], 3)
    (file,) = tmp_path.iterdir()
    made = file.stat().st_mtime_ns
    four = best_of.drawn_in_portions(workshop, questions, 3)
    assert four[:2] == two
    assert four[2:] != two
    assert (len(list(tmp_path.iterdir())), file.stat().st_mtime_ns) == (2, made)


def test_a_quarter_of_the_votes_is_turned_around_and_always_the_same_ones() -> None:
    answer = {"id": "", "text": "Yes.", "token_ids": None, "finish_reason": None}
    votes = [sources.Voted(str(k), [], answer, answer, 1.0) for k in range(400)]
    rows = noisy(votes, 0.25, seed=1)
    turned = sum(row["preferences"][0][2] == 0.0 for row in rows)
    assert 75 <= turned <= 125
    assert rows == noisy(votes, 0.25, seed=1)
    assert rows != noisy(votes, 0.25, seed=2)


def test_objectives_that_only_read_ties_differently_are_left_out_where_there_are_none() -> None:
    everything, without = ({one.name for one in sides.ours(ties=t)} for t in (True, False))
    assert everything - without == {"davidson", "plackett_luce", "rao_kupper"}


def test_calibration_is_compared_at_each_sources_largest_count() -> None:
    rows = [row("a", "TRL", 0, 0.3, 10), row("a", "TRL", 0, 0.1, 20), row("b", "TRL", 0, 0.2, 15)]
    assert reward_quality.calibration(rows, "TRL", "ece") == pytest.approx(0.15)


def test_the_page_shows_every_learner_at_every_count_and_how_sure_it_is_at_the_largest() -> None:
    rows = [
        row("simulated", side, 0.1, 0.25, count)
        for side in ("bradley_terry", "TRL")
        for count in (100, 300)
    ]
    text = page.quality_tables({"rows": rows})
    assert "| accuracy | simulated, 100 | simulated, 300 |" in text
    assert "| TRL | 0.60 (0.50 to 0.70) | 0.60 (0.50 to 0.70) |" in text
    assert "| bradley_terry | 0.600; 0.250; 0.250; 0.100 |" in text


def test_a_little_of_everything_runs_and_what_was_computed_is_not_computed_again(
    tmp_path: Path,
) -> None:
    rounds = {
        "rounds": 1, "questions": 4, "candidates": 2, "alone": 1, "epochs": 1, "heldout": 3,
        "answers": 2,
    }  # fmt: skip
    size = Size((1,), 12, 2, 4, 1, 2, rounds, {"members": 2, "doubted": 4, "epochs": 1})
    first = overopt.measure(tmp_path, size)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert overopt.measure(tmp_path, size) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made
    assert [row["n"] for row in first["best_of_n"]["rows"] if row["reading"] == ALONE] == [1, 2, 4]
    after = [row for row in first["rounds"]["rows"] if row["round"] == 1]
    assert {row["reading"] for row in after} == {ALONE, *followed.READINGS}
    assert page.plain(first)["rounds"]["readings"]["worst case"]["gold"]["low"] is None  # one seed
    assert "one seed" in page.overopt_tables(first)


def test_the_explicit_and_the_implicit_reward_are_measured_at_home_and_elsewhere(
    tmp_path: Path,
) -> None:
    workshop = Workshop(tmp_path, Sampler(world.BASE.base))
    home = sources.simulated(workshop, 12, 8)
    elsewhere = {home.name: home.heldout, sources.SHIFTED: sources.shifted(workshop, 8)}
    rows = list(reward_quality.explicit_and_implicit(workshop, home, 12, elsewhere))
    assert [row["measured_on"] for row in rows] == [home.name, sources.SHIFTED]
    for one in rows:
        gap = one["explicit"]["value"] - one["implicit"]["value"]
        assert one["gap"]["value"] == pytest.approx(gap)
    (first, second) = (
        sides.margins(workshop, sides.made(side, workshop, home.trained)["weights"], home.heldout)
        for side in (sides.OURS, sides.IMPLICIT)
    )
    assert all(pair.margin for pair in second)  # the policy is not its reference any more
    assert [pair.margin for pair in first] != [pair.margin for pair in second]
    assert "| simulated, 12 | simulated (held out) | " in "\n".join(page.implicit_table(rows))
