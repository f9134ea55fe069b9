"""A mixture of tastes: its formula, opposite groups that no score holds, and who has which."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align import jobs, routing
from align.gpu import reward, score, tastes
from align.labels import Labels, Rater
from align.objective import Preferences, Said
from align.objectives.bradley_terry import BradleyTerry
from align.objectives.mixture import Mixture
from tests.align.conftest import do, response
from tests.align.test_reward import reward_job

Rundir = Callable[..., Path]
F64 = torch.float64
LIKES_LONG, LIKES_SHORT = ("a", "b", "c"), ("x", "y", "z")


def pairs(count: int, **more: Any) -> Preferences:
    i = torch.arange(0, 2 * count, 2)
    p = torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=F64)
    return Preferences(i, i + 1, p, torch.ones(count, dtype=F64), **more)


def test_one_head_is_bradley_terry():
    values, said = torch.randn(8, 1, dtype=F64), Said(pairs(4))
    one, plain = Mixture(heads=1), BradleyTerry()
    assert one.width([]) == plain.width([]) == 1
    assert torch.allclose(one.loss(values, said), plain.loss(values, said), atol=1e-12)
    field = values.mean(0)
    assert torch.allclose(one.score(values, field), plain.score(values, field))
    assert one.penalty(one.sums(values, said), torch.zeros(1, 4)).item() == pytest.approx(0)


def test_the_loss_by_hand():
    values = torch.tensor([[1.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=F64)
    i, one = torch.tensor([0]), torch.ones(1, dtype=F64)
    found = Mixture(centring=0).loss(values, Said(Preferences(i, i + 1, one, one)))
    chance = (torch.tensor(1.0).sigmoid() + torch.tensor(-2.0).sigmoid()) / 2
    assert found.item() == pytest.approx(-chance.log().item(), abs=1e-6)
    shares = torch.tensor([[0.75, 0.25]], dtype=F64)
    found = Mixture(centring=0).loss(values, Said(Preferences(i, i + 1, one, one, tastes=shares)))
    chance = 0.75 * torch.tensor(1.0).sigmoid() + 0.25 * torch.tensor(-2.0).sigmoid()
    assert found.item() == pytest.approx(-chance.log().item(), abs=1e-6)


@pytest.mark.parametrize("heads", [2, 3, 8])
def test_shares_sum_to_one_and_log_odds_are_antisymmetric(heads: int):
    torch.manual_seed(heads)
    mixture, values = Mixture(heads=heads), torch.randn(6, 2 * heads, dtype=F64)
    values[:, heads:] = torch.randn(3, heads, dtype=F64).repeat_interleave(2, 0)  # of a prompt
    shares = torch.rand(6, heads, dtype=F64).softmax(1)
    for told in (None, shares):
        assert torch.allclose(mixture.gate(values, told).exp().sum(1), torch.ones(6, dtype=F64))
    i, j = torch.tensor([0, 2]), torch.tensor([1, 3])
    assert torch.allclose(mixture.logit(values, i, j), -mixture.logit(values, j, i), atol=1e-9)
    assert mixture.logit(values, i, i).abs().max() == 0


def test_a_head_that_gets_nothing_is_penalised_and_even_heads_are_not():
    mixture, said = Mixture(balance=1.0, centring=0), Said(pairs(2))
    even = torch.zeros(4, 4, dtype=F64)
    assert mixture.penalty(mixture.sums(even, said), torch.zeros(4, 2)).item() == pytest.approx(0)
    closed = even + torch.tensor([0, 0, 30.0, 0])
    found = mixture.penalty(mixture.sums(closed, said), torch.zeros(4, 2)).item()
    assert found == pytest.approx(0.6931, abs=1e-3)  # log 2


def vote(rater: str, first: bool) -> dict[str, Any]:
    ranking = [[0], [1]] if first else [[1], [0]]
    base = {
        "rater": rater,
        "ranking": ranking,
        "strength": None,
        "p": None,
        "human": True,
        "age": 0,
    }
    return base


def rows(count: int, opposite: bool = True) -> list[dict[str, Any]]:
    """Two answers each, one cheerful; one group of raters likes that and the other, where they are
    opposite, the contrary. Every fifth comparison is held out; everybody votes on two of three."""
    draw, found = random.Random(3), []
    for n in range(count):
        first = draw.random() < 0.5
        texts = ["good" + "!" * (n % 4), "yuck" + "." * (n % 3)]
        texts = texts if first else texts[::-1]
        votes = [vote(rater, first) for rater in LIKES_LONG if draw.random() < 0.7]
        votes += [vote(rater, first != opposite) for rater in LIKES_SHORT if draw.random() < 0.7]
        if votes:
            found.append({
                "id": str(n),
                "messages": [{"role": "user", "content": f"question {n}"}],
                "responses": [response(text, id=f"{n}/{k}") for k, text in enumerate(texts)],
                "preferences": [(0, 1, 0.5, 1.0)],
                "heldout": n % 5 == 0,
                "votes": votes,
            })  # fmt: skip
    return found


def trained(rundir: Rundir, base: Path, name: str, objective: str, **more: Any) -> dict[str, Any]:
    job = reward_job(base, epochs=6, learning_rate=2e-2)
    job = dataclasses.replace(job, objective=objective, **more)
    return do(reward.work, rundir(job, name, comparisons=rows(60)))


def by_rater(folder: Path, found: dict[str, Any]) -> float:
    """Accuracy on held-out votes where each rater is read by their own weights of the heads."""
    judge = reward.load(folder / "weights")
    right = []
    for row in rows(60):
        if row["heldout"]:
            encoder = tastes.data.Encoder(judge.policy.tokenizer)
            exchanges = encoder.example(row["messages"], row["responses"], 200)
            with torch.no_grad():
                values = judge.read(exchanges)[0]
            for one in row["votes"]:
                weights = torch.tensor(found["routes"][one["rater"]])
                a, b = judge.objective.routed(values, weights).tolist()
                right.append((a > b) == (one["ranking"] == [[0], [1]]))
    return sum(right) / len(right)


def by_score(folder: Path) -> float:
    """Accuracy of one score for all on the same votes."""
    judge = reward.load(folder / "weights")
    encoder, right = tastes.data.Encoder(judge.policy.tokenizer), []
    for row in rows(60):
        with torch.no_grad():
            a, b = judge.scores(encoder.example(row["messages"], row["responses"], 200)).tolist()
        if row["heldout"]:
            right += [(a > b) == (one["ranking"] == [[0], [1]]) for one in row["votes"]]
    return sum(right) / len(right)


def scored(rundir: Rundir, job: jobs.ScoreJob, name: str) -> list[float]:
    messages = [{"role": "user", "content": "another question"}]
    items = [
        {"id": text, "messages": messages, "response": response(text)} for text in ("good", "yuck")
    ]
    folder = rundir(job, name, items=items)
    do(score.work, folder)
    return [row["reward"] for row in jobs.read_rows(folder / jobs.SCORES)]


def test_opposite_groups_are_one_half_to_one_score_and_told_apart_by_a_mixture(
    rundir: Rundir, tiny_base: Path, tmp_path: Path
) -> None:
    found = trained(rundir, tiny_base, "mixture", "mixture")
    told = found["labels"]["tastes"]
    assert told["differ"]
    assert told["low"] > 0
    assert found["routed"] > 0.9
    assert sum(found["shares"]) == pytest.approx(1)
    for weights in found["routes"].values():
        assert sum(weights) == pytest.approx(1)
    heads = {
        name: max((0, 1), key=lambda k: one["shares"][k]) for name, one in told["raters"].items()
    }
    assert (
        len({heads[name] for name in LIKES_LONG}) == len({heads[name] for name in LIKES_SHORT}) == 1
    )
    assert heads["a"] != heads["x"]
    assert by_rater(tmp_path / "mixture", found) > 0.9
    for rater, cheerful in (("a", True), ("x", False)):
        asked = jobs.ScoreJob(
            reward_model=str(tmp_path / "mixture" / "weights"),
            tastes=found["routes"][rater],
            cache=str(tmp_path / "cache"),
        )
        good, bad = scored(rundir, asked, f"read for {rater}")
        assert (good > bad) == cheerful
    assert len(list((tmp_path / "cache").iterdir())) == 2  # what one hears is not another's
    single = trained(rundir, tiny_base, "single", "bradley_terry")
    assert "tastes" not in single["labels"]
    assert 0.3 < by_score(tmp_path / "single") < 0.7
    # Trained again, heads keep the numbers that raters know them by, whatever order they come in.
    asked = jobs.ScoreJob(reward_model=str(tmp_path / "single" / "weights"), tastes=[1, 0])
    refused = rundir(asked, "refused", items=[])
    with pytest.raises(SystemExit):
        do(score.work, refused)
    turned = {name: one["shares"][::-1] for name, one in told["raters"].items()}
    job = dataclasses.replace(reward_job(tiny_base), objective="mixture", tastes=turned)
    folder = rundir(job, "again", comparisons=rows(60))
    again = tastes.find(reward.Run(folder), job, rows(60), 2)
    assert again["raters"]["a"]["shares"] == pytest.approx(turned["a"], abs=1e-6)


def test_raters_of_one_taste_do_not_differ(rundir: Rundir, tiny_base: Path) -> None:
    job = dataclasses.replace(reward_job(tiny_base), objective="mixture")
    folder = rundir(job, comparisons=rows(40, opposite=False))
    found = tastes.find(reward.Run(folder), job, rows(40, opposite=False), 2)
    assert not found["differ"]
    assert tastes.shares(found) == {}


def test_a_taste_of_ones_own_is_not_discounted_and_its_contrary_or_guessing_is():
    def rater(name: str, own: float, one: float) -> dict[str, Any]:
        return {"shares": [0.5, 0.5], "votes": 60, "gain": 0.1, "by_own": own, "by_one": one}

    told = {
        "differ": True,
        "raters": {
            "minority": rater("minority", 0.9, 0.5),
            "contrary": rater("contrary", 0.85, 0.15),
            "guesses": rater("guesses", 0.52, 0.5),
        },
    }
    doubtful = {name: Rater(0.5, 60, 0.1) for name in told["raters"]}
    assert tastes.doubted(doubtful)
    kept = tastes.spared(doubtful, told)
    assert kept["minority"].weight == 1
    assert "taste of their own" in kept["minority"].note
    assert kept["contrary"] == doubtful["contrary"]
    assert kept["guesses"] == doubtful["guesses"]
    assert tastes.spared(doubtful, {**told, "differ": False}) == doubtful


def test_hedge_by_hand_and_over_many_votes():
    assert routing.hedge([0.5, 0.5], [0.0, 1.0], 1.0) == pytest.approx([0.7311, 0.2689], abs=1e-4)
    found = routing.routed([([2.0, -2.0], 1.0)] * 10, 2)
    assert sum(found) == pytest.approx(1)
    assert found[0] > 0.99
    assert routing.routed([], 3) == pytest.approx([1 / 3] * 3)
    with pytest.raises(ValueError, match="2 weights and 3 losses"):
        routing.hedge([0.5, 0.5], [1, 2, 3])


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_an_assignment_costs_as_little_as_any(size: int):
    draw = random.Random(size)
    for _ in range(20):
        costs = [[draw.uniform(-5, 5) for _ in range(size)] for _ in range(size)]
        found = routing.matching(costs)
        assert sorted(found) == list(range(size))
        best = min(
            sum(costs[row][column] for row, column in enumerate(order))
            for order in itertools.permutations(range(size))
        )
        assert sum(costs[row][k] for row, k in enumerate(found)) == pytest.approx(best)
    with pytest.raises(ValueError, match="as many columns"):
        routing.matching([[1.0, 2.0]])


def test_heads_keep_the_numbers_their_raters_know_them_by():
    before = {"a": [0.9, 0.1], "b": [0.2, 0.8]}
    assert routing.alike(before, {"a": [0.1, 0.9], "b": [0.7, 0.3]}) == [1, 0]
    assert routing.alike(before, {"c": [0.1, 0.9]}) is None


def test_a_mixture_refuses_flips(rundir: Rundir, tiny_base: Path) -> None:
    job = dataclasses.replace(reward_job(tiny_base), objective="mixture", labels=Labels(flip=0.1))
    with pytest.raises(SystemExit):
        do(reward.work, rundir(job, comparisons=rows(10)))
