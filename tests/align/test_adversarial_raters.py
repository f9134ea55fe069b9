"""Raters who say the opposite of the truth are found by their votes and read turned around; raters
who share a taste of their own are not taken for them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align import labels
from align.gpu import crowd, probe, reward
from align.gpu.probe import Table
from align.labels import Labels
from align.objective import Preferences
from tests.align.conftest import do
from tests.align.test_labels import PLAIN, vote
from tests.align.test_reward import comparison, reward_job

Rundir = Callable[..., Path]
HONEST = [f"honest {k}" for k in range(8)]
ADVERSE = ["adverse 0", "adverse 1"]  # 20 % of the raters
PROLIFIC = [*HONEST, *ADVERSE * 3]  # who cast 3 of 7 votes


def cast(rng: random.Random, first: bool, raters: list[str], each: int) -> list[dict[str, Any]]:
    """`each` votes on two answers, of which the first is better, or not: honest raters see it nine
    times out of ten, adverse ones say the opposite of what they see."""
    told, who = [], list(raters)
    for _ in range(each):
        name = rng.choice(who)
        who = [other for other in who if other != name]
        right = (rng.random() < 0.9) != (name in ADVERSE)
        told.append(vote([[0], [1]] if first == right else [[1], [0]], name))
    return told


def row(n: int, votes: list[dict[str, Any]]) -> dict[str, Any]:
    made = comparison(str(n), ["one answer", "another answer"])
    for k, one in enumerate(made["responses"]):
        one["id"] = f"{n}-{k}"
    return {**made, "votes": votes}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("count", "each"), [(150, 3), (60, 10)])
def test_the_adverse_are_found_and_nobody_else_is(seed: int, count: int, each: int):
    """Three votes on each of 150 comparisons, or everybody's on 60: the chance of an honest vote,
    0.9, is found within 0.12 for each, and the adverse ones', 0.1, within 0.2."""
    rng = random.Random(seed)
    rows = [row(n, cast(rng, n % 2 == 0, HONEST + ADVERSE, each)) for n in range(count)]
    found = crowd.raters(rows)
    for name in HONEST:
        assert found[name].reliability == pytest.approx(0.9, abs=0.12)
        assert found[name].weight > 0.55
        assert not found[name].turned
    for name in ADVERSE:
        assert found[name].reliability == pytest.approx(0.1, abs=0.2)
        assert found[name].turned
        assert "turned around" in found[name].note


@pytest.mark.parametrize("agree", [0, 1, 2, 3])
def test_a_shared_taste_is_told_from_malice_unless_it_contradicts_everything(agree: int):
    """Two raters with one taste, that of the crowd on `agree` comparisons out of four."""
    rows = []
    for n in range(60):
        truth = [[0], [1]] if n % 2 == 0 else [[1], [0]]
        votes = [vote(truth, name) for name in HONEST[:5]]
        taste = truth if n // 2 % 4 < agree else truth[::-1]
        rows.append(row(n, [*votes, vote(taste, "eve"), vote(taste, "fay")]))
    for name in ("eve", "fay"):
        found = crowd.raters(rows)[name]
        assert found.turned == (agree == 0)
        assert found.weight == (1.0 if agree in (1, 2) else found.weight)
        assert found.weight > 0.3


def recovered(seed: int, settings: Labels, adverse: bool) -> float:
    """Accuracy, on fresh pairs, of a probe fitted to three votes on each of 300 pairs whose better
    answer a linear taste decides."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    taste = torch.randn(9, dtype=torch.float64)
    x = torch.randn(600, 9, dtype=torch.float64)
    better = (x[::2] - x[1::2]) @ taste > 0
    raters = PROLIFIC if adverse else HONEST
    rows = [row(n, cast(rng, one, raters, 3)) for n, one in enumerate(better.tolist())]
    known = crowd.raters(rows) if settings.raters else {}
    weigh = labels.weigher(settings, known)
    counted = [labels.count(one, weigh)["preferences"][0] for one in rows]
    i = torch.arange(300) * 2
    p, weight = (torch.tensor([one[k] for one in counted], dtype=torch.float32) for k in (2, 3))
    table = Table(x, Preferences(i, i + 1, p, weight), torch.arange(300))
    w = probe.fit(table, 1.0)
    fresh = torch.randn(4000, 9, dtype=torch.float64)
    return float((((fresh @ w) > 0) == ((fresh @ taste) > 0)).double().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weighing_raters_recovers_what_the_adverse_took(seed: int):
    """Accuracy is within 0.03 of that on honest votes, and without weighing at least 0.04 less."""
    clean = recovered(seed, Labels(), adverse=False)
    weighed = recovered(seed, Labels(raters=True), adverse=True)
    plain = recovered(seed, Labels(), adverse=True)
    assert weighed > clean - 0.03
    assert plain < weighed - 0.04


def planted(adverse: bool, count: int = 120) -> list[dict[str, Any]]:
    """Three votes on each of two answers, of which one begins with "good"; a quarter held out, by
    what is true."""
    rng = random.Random(4)
    rows = []
    for n in range(count):
        first = rng.random() < 0.5
        starts = ["good", "yuck"] if first else ["yuck", "good"]
        texts = [start + "".join(rng.choice("abcdef") for _ in range(6)) for start in starts]
        made = {**comparison(str(n), texts), "heldout": n % 4 == 0}
        for k, one in enumerate(made["responses"]):
            one["id"] = f"{n}-{k}"
        votes = cast(rng, first, PROLIFIC if adverse else HONEST, 3)
        held = {**made, "preferences": [(0, 1, float(first), 1.0)]}
        rows.append(held if made["heldout"] else labels.count({**made, "votes": votes}, PLAIN))
    return rows


def test_a_reward_model_that_weighs_raters_is_as_good_as_one_of_honest_votes(
    rundir: Rundir, tiny_base: Path
) -> None:
    """On 30 held-out pairs: accuracy within 0.05, log-loss within 0.15 and well below the plain
    count's."""
    plain = reward_job(tiny_base, "full", epochs=4, checkpoint_every=10**6)
    weighed = dataclasses.replace(plain, labels=Labels(raters=True))
    clean, found, lost = (
        do(reward.work, rundir(job, name, comparisons=planted(adverse)))
        for name, job, adverse in (
            ("clean", plain, False), ("weighed", weighed, True), ("plain", plain, True),
        )
    )  # fmt: skip
    assert all(found["labels"]["raters"][name]["turned"] for name in ADVERSE)
    assert found["accuracy"] == pytest.approx(clean["accuracy"], abs=0.05)
    assert found["log_loss"] == pytest.approx(clean["log_loss"], abs=0.15)
    assert lost["log_loss"] > found["log_loss"] + 0.1
