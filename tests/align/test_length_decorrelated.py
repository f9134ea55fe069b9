"""The length-decorrelated head: its formula, planted votes with a length bias, and any cut of a
step alike."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align import jobs
from align.gpu import data, reward
from align.measure import confounds
from align.measure.confounds import Scored
from align.objective import Objective, Preferences, Said
from align.objectives.bradley_terry import BradleyTerry
from align.objectives.length_decorrelated import LengthDecorrelated
from tests.align.conftest import do, metrics, response
from tests.align.crowd import doing, together
from tests.align.test_reward import reward_job

Rundir = Callable[..., Path]
SEEDS = (0, 1, 2)


def said(tokens: list[float], weight: float = 1.0) -> Said:
    """Answers two by two, the first of each pair preferred."""
    i = torch.arange(0, len(tokens), 2)
    pairs = Preferences(i, i + 1, torch.ones(len(i)), torch.full((len(i),), weight))
    return Said(pairs, tokens=torch.tensor(tokens))


def penalty(objective: LengthDecorrelated, values: Tensor, told: Said, weight: Tensor) -> float:
    return objective.penalty(objective.sums(values, told), weight).item()


def test_the_penalty_by_hand():
    told, across = said([3.0, 1.0, 1.0, 2.0]), torch.eye(2)  # 2 and -1 tokens apart
    length_alone = torch.tensor([[0.0, 4.0], [0.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    one = LengthDecorrelated(orthogonal=0.0)
    assert penalty(one, length_alone, told, across) == pytest.approx(0, abs=1e-6)
    assert penalty(one, length_alone.flip(1), told, across) == pytest.approx(2, abs=1e-6)
    neither = torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])  # 2 x 1 - 1 x 2 = 0
    assert penalty(one, neither, told, across) == pytest.approx(1, abs=1e-6)
    along = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    alike = penalty(LengthDecorrelated(orthogonal=0.5), length_alone, told, along)
    assert alike == pytest.approx(0.5, abs=1e-6)


def test_votes_are_on_the_sum_of_the_heads_and_rewards_are_quality_alone():
    objective, told = LengthDecorrelated(centring=0), said([3.0, 1.0])
    values = torch.tensor([[1.0, 0.5], [0.2, 0.1]])
    assert objective.loss(values, told).item() == pytest.approx(math.log1p(math.exp(-1.2)))
    assert objective.score(values, values.mean(0)).tolist() == pytest.approx([1.0, 0.2])
    assert objective.logit(values, told.preferences.i, told.preferences.j).item() == pytest.approx(
        0.8
    )


@pytest.mark.parametrize("tokens", [[2.0, 2.0, 5.0, 5.0], [4.0, 1.0]])
def test_pairs_as_long_as_each_other_or_a_single_pair_pull_at_nothing(tokens: list[float]):
    values = torch.randn(len(tokens), 2, requires_grad=True)
    objective = LengthDecorrelated()
    objective.penalty(objective.sums(values, said(tokens)), torch.eye(2)).backward()
    assert values.grad is not None
    assert values.grad.abs().max() < 1e-6


def test_shifts_by_prompt_and_the_scale_of_weights_make_no_difference():
    torch.manual_seed(0)
    values, tokens, rows = torch.randn(20, 2), torch.rand(20).tolist(), torch.randn(2, 5)
    objective = LengthDecorrelated()
    found = penalty(objective, values, said(tokens), rows)
    shifted = values + torch.randn(10, 2).repeat_interleave(2, 0)
    assert penalty(objective, shifted, said(tokens), rows) == pytest.approx(found, abs=1e-5)
    assert penalty(objective, values, said(tokens, 3.0), rows) == pytest.approx(found, abs=1e-5)


def planted(seed: int, pairs: int = 600) -> tuple[Tensor, Tensor, Tensor, Said]:
    """Answers' features (R, 10), a turned-around mixture of quality, length and eight others; their
    quality, and votes on pairs that want quality and, as strongly, length."""
    torch.manual_seed(seed)
    truth = torch.randn(2 * pairs, 10, dtype=torch.float64)  # quality, length in spreads, the rest
    turn = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64))[0]
    i = torch.arange(pairs) * 2
    apart = truth[i] - truth[i + 1]
    p = torch.bernoulli(torch.sigmoid(1.5 * apart[:, 0] + 1.5 * apart[:, 1]))
    votes = Preferences(i, i + 1, p, torch.ones(pairs, dtype=torch.float64))
    tokens = 100 + 30 * truth[:, 1]
    return truth @ turn, truth[:, 0], tokens, Said(votes, tokens=tokens)


def fitted(objective: Objective, x: Tensor, told: Said) -> Tensor:
    """What linear heads on features learn to say, (R, W)."""
    head = 0.1 * torch.randn(objective.width(()), x.shape[1], dtype=torch.float64)
    head.requires_grad_()
    adam = torch.optim.Adam([head], lr=0.05)
    for _ in range(200):
        adam.zero_grad()
        values = x @ head.T
        total = objective.loss(values, told).mean()
        if objective.by_step:
            total = total + objective.penalty(objective.sums(values, told), head)
        total.backward()
        adam.step()
    return (x @ head.T).detach()


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


@pytest.mark.parametrize("seed", SEEDS)
def test_of_votes_that_want_quality_and_length_one_head_keeps_the_quality(seed: int):
    """Equal weights: a single score has correlation 0.71 with each. The quality head has 0.95 with
    quality, and a fifth of the single score's with length at the most."""
    x, quality, tokens, told = planted(seed)
    single = fitted(BradleyTerry(), x, told)[:, 0]
    both = fitted(LengthDecorrelated(), x, told)
    assert correlation(single, quality) < 0.8
    assert correlation(single, tokens) > 0.6
    assert correlation(both[:, 0], quality) > 0.95
    assert abs(correlation(both[:, 0], tokens)) < correlation(single, tokens) / 5
    assert correlation(both[:, 1], tokens) > 0.95


def text(rng: random.Random, start: str) -> str:
    return start + "".join(rng.choice("abcdef") for _ in range(rng.randint(1, 16)))


def biased(seed: int, count: int = 160) -> list[dict[str, Any]]:
    """Votes for answers that begin with "good", 2 in log-odds, and for longer ones, 0.3 a token."""
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        texts = [text(rng, rng.choice(["good", "yuck"])) for _ in range(2)]
        good = [one.startswith("good") for one in texts]
        ahead = 2 * (good[0] - good[1]) + 0.3 * (len(texts[0]) - len(texts[1]))
        won = rng.random() < 1 / (1 + math.exp(-ahead))
        rows.append(
            {
                "id": str(n),
                "messages": [{"role": "user", "content": f"question {n}"}],
                "responses": [response(one, id=str(k)) for k, one in enumerate(texts)],
                "preferences": [(0, 1, float(won), 1.0)],
                "heldout": n % 8 == 0,
            }
        )
    return rows


def judged(folder: Path, prompts: int = 60) -> tuple[float, float]:
    """Of new answers, a good one and a bad one to each prompt: how often the good one is scored
    higher, and the correlation of score and length."""
    model, rng = reward.load(folder / jobs.WEIGHTS), random.Random(99)
    encoder = data.Encoder(model.policy.tokenizer)
    found: list[Scored] = []
    right = 0
    for k in range(prompts):
        texts = [text(rng, start) for start in ("good", "yuck")]
        ask = [{"role": "user", "content": f"another {k}"}]
        rows = encoder.example(ask, [response(one) for one in texts], 200)
        assert rows is not None
        with torch.no_grad():
            scores = model.scores(rows).tolist()
        found += [Scored(str(k), t, s, len(t)) for t, s in zip(texts, scores, strict=True)]
        right += scores[0] > scores[1]
    length = confounds.length_correlation(found)
    assert length is not None
    return right / prompts, length.value


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trained_models_quality_head_drops_the_planted_length_bias(
    rundir: Rundir, tiny_base: Path, seed: int
) -> None:
    """On new answers its correlation with length is at most half of Bradley-Terry's, and good
    answers are put above bad ones more often."""
    plain = reward_job(
        tiny_base, "full", epochs=6, batch_size=16, micro_batch_size=16, seed=seed,
        checkpoint_every=10**6,
    )  # fmt: skip
    measured = {}
    for name in ("bradley_terry", "length_decorrelated"):
        job = dataclasses.replace(plain, objective=name)
        folder = rundir(job, name, comparisons=biased(seed))
        do(reward.work, folder)
        measured[name] = judged(folder)
    (single, long), (quality, apart) = measured.values()
    assert long > 0.4
    assert abs(apart) < long / 2
    assert quality > 0.95
    assert quality > single
    last = [values for values in metrics(folder) if "length/length" in values][-1]
    assert last["length/length"] > 0.9


def test_a_step_is_the_same_however_it_is_cut(rundir: Rundir, tiny_base: Path) -> None:
    """The correlations are of the step's whole batch: of 16 pairs at once, or two at a time."""
    found = []
    for size in (16, 2):
        job = dataclasses.replace(
            reward_job(tiny_base, "full", epochs=1, batch_size=16, micro_batch_size=size),
            objective="length_decorrelated",
        )
        folder = rundir(job, str(size), comparisons=biased(0, 40))
        do(reward.work, folder)
        found.append([values for values in metrics(folder) if "loss" in values])
    for whole, cut in zip(*found, strict=True):
        for name in ("loss", "grad_norm", "length/quality", "length/length"):
            assert cut[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-4)


def test_two_processes_take_the_steps_that_one_does(rundir: Rundir, tiny_base: Path) -> None:
    job = dataclasses.replace(
        reward_job(tiny_base, "full", epochs=1, batch_size=8, micro_batch_size=3),
        objective="length_decorrelated",
    )
    alone, both = (rundir(job, name, comparisons=biased(0, 21)) for name in ("alone", "both"))
    do(reward.work, alone)
    assert together(2, doing(reward.work, both)) == [0, 0]
    steps = [[one for one in metrics(folder) if "loss" in one] for folder in (alone, both)]
    assert len(steps[0]) == 3
    for one, shared in zip(*steps, strict=True):
        for name in ("loss", "grad_norm", "length/quality", "length/length"):
            assert shared[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4)


def test_members_each_keep_their_own_quality_head(rundir: Rundir, tiny_base: Path) -> None:
    job = dataclasses.replace(
        reward_job(tiny_base, "full", epochs=2, batch_size=16),
        objective="length_decorrelated",
        ensemble=reward.ensemble.Ensemble(members=3, reading="worst"),
    )
    folder = rundir(job, comparisons=biased(0, 64))
    assert do(reward.work, folder)["spread"] > 0
    model = reward.load(folder / jobs.WEIGHTS)
    assert model.head.weight.shape[0] == 6
