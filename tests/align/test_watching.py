"""What is watched while a policy trains: exact entropy, and an estimate of KL with no negative."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from align.gpu import data, model, watching
from align.gpu.comparisons import apart
from align.gpu.logps import sequence_logps, token_logps
from align.gpu.train import work
from align.jobs import ModelRef, Weights
from align.objective import Preferences
from tests.align.conftest import do, metrics, pairs, response, train_job

Rundir = Callable[..., Path]


@pytest.fixture(scope="module")
def policy(tiny_base: Path) -> model.Policy:
    return model.load(ModelRef(base=str(tiny_base)))


def rows(policy: model.Policy, *words: str) -> list[data.Exchange]:
    encoder = data.Encoder(policy.tokenizer)
    asks = [{"role": "user", "content": "question 1"}]
    found = encoder.example(asks, [response(each) for each in words], 200)
    assert found is not None
    return found


def test_a_reading_is_the_log_probabilities_and_their_tokens(policy: model.Policy) -> None:
    asked = rows(policy, "yes it is", "no")
    with torch.no_grad():
        read = watching.read(policy, asked, entropy=True)
        assert torch.equal(read.sums, sequence_logps(policy, asked))
        assert torch.equal(read.tokens, torch.cat(token_logps(policy, asked)))
        assert watching.read(policy, asked, entropy=False).entropy.numel() == 0


def test_entropy_is_that_of_the_next_token_at_each_response_token(policy: model.Policy) -> None:
    (asked,) = rows(policy, "yes it is")
    ids = torch.tensor([asked.prompt + asked.response])
    with torch.no_grad():
        read = watching.read(policy, [asked], entropy=True)
        logits = policy.causal(input_ids=ids).logits[0].double()
    before = slice(len(asked.prompt) - 1, len(asked) - 1)
    logps = logits[before].log_softmax(-1)
    assert read.entropy.tolist() == pytest.approx((-(logps.exp() * logps).sum(-1)).tolist(), 1e-4)


def test_long_batches_are_looked_at_in_places_evenly_spaced(
    policy: model.Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rows(policy, "yes it is yes it is", "no no no")
    with torch.no_grad():
        every = watching.read(policy, asked, entropy=True).entropy
        monkeypatch.setattr(watching, "LOOKED_AT", 3)
        few = watching.read(policy, asked, entropy=True).entropy
    assert torch.allclose(few, every[:: math.ceil(len(every) / 3)])


def test_kl_is_the_mean_over_what_the_start_policy_writes() -> None:
    start = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    moved = torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)
    exact = (moved * (moved / start).log()).sum().item()
    one = [watching.kl(moved[k : k + 1].log(), start[k : k + 1].log()).item() for k in range(3)]
    assert min(one) > 0
    assert sum(p * value for p, value in zip(start.tolist(), one, strict=True)) == pytest.approx(
        exact
    )


def test_start_tokens_come_back_as_they_were_put() -> None:
    def example(*lengths: int) -> Any:
        exchanges = [SimpleNamespace(response=(0,) * length) for length in lengths]
        return SimpleNamespace(sequences=dict(zip(("chosen", "rejected"), exchanges, strict=True)))

    roles = ("chosen", "rejected")
    kept = watching.StartTokens([example(1, 2), example(3, 1), example(2, 2)], roles)
    kept.put([2, 0], roles, torch.arange(7.0))
    assert kept.of([0, 2], roles).tolist() == [2.0, 0.0, 1.0, 5.0, 6.0, 3.0, 4.0]
    assert kept.of([1], ["chosen"]).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_kl_begins_at_exactly_nothing_and_grows(rundir: Rundir, tiny_base: Path, mode: Any) -> None:
    job = dataclasses.replace(train_job(tiny_base), weights=Weights(mode=mode))
    folder = rundir(job, examples=pairs())
    do(work, folder)
    logged = metrics(folder)
    assert logged[0]["objective/kl"] == 0.0
    assert logged[-1]["objective/kl"] > 1e-4
    assert all(values["objective/kl"] >= 0 for values in logged)
    assert all(0 < values["entropy"] <= math.log(1e6) for values in logged)


def test_members_of_an_ensemble_are_apart_by_their_log_odds() -> None:
    pairs = Preferences(
        torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([1.0, 0.0]), torch.ones(2)
    )
    found = apart(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), pairs)
    assert found["margin"] == (pytest.approx(2.0 - 2.0), 2.0)
    assert found["disagreement"] == (pytest.approx(math.sqrt(2)), 2.0)
    assert "disagreement" not in apart(torch.tensor([[1.0, 2.0]]), pairs)
