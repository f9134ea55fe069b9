"""Every reward objective trains on the tiny model, is saved, and scores as it was trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align import discovery, jobs, objectives
from align.gpu import data, model, reward, score
from align.gpu.logps import sequence_logps
from align.jobs import ModelRef, RewardJob, ScoreJob
from tests.align.conftest import do, metrics, response
from tests.align.test_reward import comparison, comparisons, reward_job

Rundir = Callable[..., Path]
ASK = [{"role": "user", "content": "another question"}]


def voted(row: dict[str, Any], rater: str = "1", **more: Any) -> dict[str, Any]:
    """A comparison with the ballot that its preferences were counted from: good ones share the
    first place, the others the last."""
    good = [one["text"].startswith("good") for one in row["responses"]]
    groups = [[k for k, is_good in enumerate(good) if is_good == kind] for kind in (True, False)]
    vote = {
        "rater": rater,
        "ranking": [group for group in groups if group],
        "strength": None,
        "p": None,
        "human": True,
        "age": 0,
        **more,
    }
    return {**row, "votes": [vote]}


def scored(rundir: Rundir, folder: Path, texts: list[str], name: str) -> list[dict[str, Any]]:
    """What a score job of the finished reward job says of answers to one prompt."""
    job = ScoreJob(reward_model=str(folder / "weights"))
    items = [{"id": text, "messages": ASK, "response": response(text, id=text)} for text in texts]
    at = rundir(job, name, items=items)
    do(score.work, at)
    return list(jobs.read_rows(at / jobs.SCORES))


@pytest.mark.parametrize(
    ("objective", "knobs"),
    [
        ("plackett_luce", {}),
        ("general_preference", {}),
        ("rao_kupper", {}),
        ("davidson", {}),
        ("regression", {"from_votes": True}),
    ],
)
def test_a_planted_preference_is_found_saved_and_scored_by(
    rundir: Rundir, tiny_base: Path, objective: str, knobs: dict[str, Any]
) -> None:
    job = reward_job(tiny_base, epochs=8, learning_rate=2e-2)
    job = dataclasses.replace(job, objective=objective, knobs=knobs)
    folder = rundir(job, "train", comparisons=[voted(row) for row in comparisons(36)])
    found = do(reward.work, folder)
    assert found["accuracy"] > 0.9
    assert found["labels"]["votes"] == 36
    good, bad = scored(rundir, folder, ["goodbcd", "yuckbcd"], "score")
    assert good["reward"] > bad["reward"] + 0.5
    judge = reward.load(folder / "weights")
    assert type(judge.objective) is objectives.get(objective)


def test_a_model_that_reads_both_answers_learns_to_say_a_letter_and_is_scored_by(
    rundir: Rundir, tiny_base: Path
) -> None:
    job = reward_job(tiny_base, "full", epochs=3, learning_rate=5e-3)
    job = dataclasses.replace(job, objective="pairwise_generative")
    words = [("good", "yuck") if n % 3 else ("yuck", "good") for n in range(24)]
    rows = [comparison(str(n), list(both), n % 4 == 0) for n, both in enumerate(words)]
    folder = rundir(job, "train", comparisons=rows)
    found = do(reward.work, folder)
    losses = [values["loss"] for values in metrics(folder) if "loss" in values]
    assert losses[-1] < 0.8 * losses[0]  # it begins to name one of two, of some 260 tokens
    assert 0 <= found["consistency"] <= 1
    answers = scored(rundir, folder, ["good", "yuck"], "score")
    assert abs(sum(row["reward"] for row in answers)) < 1e-4  # what one wins, others lose
    alone = scored(rundir, folder, ["good"], "alone")
    assert alone[0]["reward"] == 0


def test_swapping_the_answers_turns_a_generative_verdict_around(
    rundir: Rundir, tiny_base: Path
) -> None:
    job = dataclasses.replace(reward_job(tiny_base, epochs=1), objective="pairwise_generative")
    folder = rundir(job, comparisons=comparisons(8))
    do(reward.work, folder)
    judge = reward.load(folder / "weights")
    rows = judge.encoder.example(ASK, [response("goodbcd"), response("yuck")], 200)
    with torch.no_grad():
        first, second = judge.scores(rows).tolist()
        second_again, first_again = judge.scores(rows[::-1]).tolist()
        same = judge.scores([rows[0], rows[0]]).tolist()
    assert (first, second) == pytest.approx((first_again, second_again), abs=1e-5)
    assert same == pytest.approx([0, 0], abs=1e-6)  # p(a, a) = 1/2


def test_a_pair_that_does_not_fit_beside_its_question_is_left_out(
    rundir: Rundir, tiny_base: Path
) -> None:
    job = reward_job(tiny_base, epochs=1, max_length=320)
    job = dataclasses.replace(job, objective="pairwise_generative")
    rows = [comparison("fits", ["good", "yuck"]), comparison("long", ["good", "y" * 200])]
    assert do(reward.work, rundir(job, comparisons=rows))["dropped"] == 1


def test_before_training_the_implicit_reward_ties_everything(
    rundir: Rundir, tiny_base: Path
) -> None:
    job = RewardJob(
        base=ModelRef(base=str(tiny_base)),
        objective="implicit",
        policy=ModelRef(base=str(tiny_base)),
    )
    found = do(reward.work, rundir(job, comparisons=comparisons(8)))
    assert found["accuracy"] == 0.5  # all ties: half right, not all wrong
    assert found["trained_on"] == 0


def test_the_implicit_reward_is_beta_times_the_log_ratio(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    policy, base = ModelRef(base=str(tiny_base), adapter=str(adapter)), str(tiny_base)
    job = RewardJob(base=ModelRef(base=base), objective="implicit", policy=policy)
    job = dataclasses.replace(job, knobs={"beta": 0.2, "by_token": True})
    folder = rundir(job, comparisons=comparisons(4))
    do(reward.work, folder)
    judge = reward.load(folder / "weights")
    rows = data.Encoder(judge.policy.tokenizer).example(ASK, [response("goodbcd")], 100)
    assert rows is not None
    with torch.no_grad():
        mine, theirs = (
            sequence_logps(model.load(ref), rows) for ref in (policy, ModelRef(base=base))
        )
        found = judge.scores(rows).item()
    assert found == pytest.approx(0.2 * (mine - theirs).item() / len(rows[0].response), rel=1e-4)
    assert found != 0


def test_an_objective_dropped_into_its_folder_is_trained(
    rundir: Rundir, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hinge.py").write_text(
        "from dataclasses import dataclass\n"
        "from align.knobs import knob\n"
        "from align.objective import Objective\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Hinge(Objective):\n"
        "    title = 'Hinge'\n"
        "    gap: float = knob(1.0, 'Margin.', above=0)\n"
        "    def loss(self, values, said):\n"
        "        ahead = values[said.preferences.i, 0] - values[said.preferences.j, 0]\n"
        "        return (self.gap - (2 * said.preferences.p - 1) * ahead).clamp(min=0)\n"
    )
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    discovery._discover.cache_clear()
    try:
        assert "hinge" in objectives.discover()
        job = dataclasses.replace(reward_job(tiny_base), objective="hinge", knobs={"gap": 2.0})
        found = do(reward.work, rundir(job, comparisons=comparisons(36)))
        assert found["accuracy"] > 0.9
    finally:
        discovery._discover.cache_clear()


def test_a_probe_takes_no_other_objective(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = dataclasses.replace(reward_job(tiny_base), form="probe", objective="davidson")
    with pytest.raises(SystemExit):
        do(reward.work, rundir(job, comparisons=comparisons(4)))
    assert "a probe is fitted by bradley_terry" in capsys.readouterr().err


BEATS = {"a": "b", "b": "c", "c": "a"}


def circle(count: int = 96) -> list[dict[str, Any]]:
    """Answers that start with an apple beat those with a brick, these a cloud, and these an
    apple. All six ordered pairs are as often among those held out as among the others."""
    rows = []
    for n in range(count):
        first = "abc"[n % 3]
        second = "abc"[(n + 1 + n // 3 % 2) % 3]
        row = comparison(str(n), [first * 3, second * 3], heldout=n // 6 % 4 == 0)
        rows.append({**row, "preferences": [(0, 1, float(BEATS[first] == second), 1.0)]})
    return rows


@pytest.mark.parametrize("seed", [0, 1])
def test_a_circle_of_tastes_is_learned_by_an_embedding_and_by_no_score(
    rundir: Rundir, tiny_base: Path, seed: int
) -> None:
    """On 24 held-out pairs. A score orders two of the circle's three kinds of pairs at best, and
    cannot be surer than a coin, however long it learns."""
    found = {}
    for objective in ("general_preference", "bradley_terry"):
        job = reward_job(tiny_base, epochs=7, learning_rate=5e-3, seed=seed)
        job = dataclasses.replace(job, objective=objective)
        folder = rundir(job, objective, comparisons=circle())
        found[objective] = do(reward.work, folder)
    assert found["general_preference"]["accuracy"] >= 0.95
    assert found["general_preference"]["log_loss"] < 0.2
    assert found["bradley_terry"]["accuracy"] <= 2 / 3 + 0.2  # two standard errors
    assert found["bradley_terry"]["log_loss"] > math.log(2) - 0.05  # by chance on so few
