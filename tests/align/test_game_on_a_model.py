"""The circle of tastes played by a language model: whole rounds of the trainer, known policies.

Answers are single tokens, so what the model says of three of them is a policy of the game, and the
loss depends on nothing else. Every pair is in the data, weighted by how often the round's policy
would write it, so a round trained to its end must land on the tabular policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align import jobs
from align.algorithms import get
from align.gpu import data, model, train
from align.gpu.logps import sequence_logps
from align.jobs import ModelRef, Optimiser, TrainJob, Weights
from tests.align.conftest import do
from tests.align.games import CYCLE, Game, minimise, objective, population

TOKENS = (40, 50, 60)
ASKS = [{"role": "user", "content": "which?"}]


def answer(arm: int) -> dict[str, Any]:
    return {"id": str(arm), "text": "?", "token_ids": [TOKENS[arm]], "finish_reason": "length"}


def policy_of(ref: ModelRef) -> Tensor:
    """What a model says of the three answers, normalised, (3,)."""
    found = model.load(ref)
    rows = data.Encoder(found.tokenizer).example(ASKS, [answer(arm) for arm in range(3)], 64)
    assert rows is not None
    with torch.no_grad():
        return sequence_logps(found, rows).double().softmax(0)


def rows_of(game: Game, policy: Tensor) -> list[dict[str, Any]]:
    rates = game.rates(policy)
    return [
        {
            "id": f"{i}-{j}",
            "messages": ASKS,
            "responses": {"chosen": answer(i), "rejected": answer(j)},
            "p": game.wins[i, j].item(),
            "facts": {"tie": 0.0, "win.chosen": rates[i].item(), "win.rejected": rates[j].item()},
            "weight": (policy[i] * policy[j]).item(),
        }
        for i, j in permutations(range(3), 2)
    ]


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("inpo", {"eta": 0.3, "tau": 0.05}),
        ("dpo", {"beta": 0.6}),
        ("dno", {"eta": 0.5}),
        ("ipo", {"tau": 0.1}),
    ],
)
def test_rounds_of_the_trainer_go_where_the_game_says(
    name: str, knobs: Mapping[str, Any], rundir: Callable[..., Path], tiny_base: Path
) -> None:
    first = start = ModelRef(base=str(tiny_base))
    game = Game(CYCLE.wins, policy_of(first))
    expected, algorithm = game.reference, get(name).build(knobs)
    for turn in range(3):
        frozen = {"reference": game.reference, "initial": game.reference, "round_start": expected}
        loss = objective(algorithm, population(game, expected), frozen)
        job = TrainJob(
            algorithm=name,
            knobs=knobs,
            start=start,
            references={
                role: start if role == "round_start" else first for role in algorithm.references
            },
            weights=Weights(mode="full"),
            optimiser=Optimiser(
                learning_rate=3e-3, epochs=80, batch_size=6, checkpoint_every=1000
            ),
        )  # fmt: skip
        folder = rundir(job, f"round-{turn}", examples=rows_of(game, policy_of(start)))
        do(train.work, folder)
        start = ModelRef(base=str(folder / jobs.WEIGHTS))
        expected = minimise(loss, expected)
        assert (policy_of(start) - expected).abs().max() < 2e-3
    assert (expected - game.reference).abs().max() > 0.1
