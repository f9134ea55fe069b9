"""A probe reads what a frozen base knows: its hidden states, and what it contradicts."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from align import jobs
from align.gpu import checkpoint, data, model, probe, reward, score
from align.gpu.probe import RIDGE_OF_C, Table
from align.jobs import ModelRef, RewardJob, ScoreJob
from align.objective import Preferences
from tests.align.conftest import do, metrics, response
from tests.align.test_reward import comparisons, reward_job


def table(x, p, weight=None, prompts=None) -> Table:
    """Preferences whose first response has the features `x` (P, D), and whose second has none."""
    x = torch.as_tensor(x, dtype=torch.float64)
    count = len(x)
    return Table(
        torch.cat([x, torch.zeros_like(x)]),
        Preferences(
            i=torch.arange(count),
            j=torch.arange(count) + count,
            p=torch.as_tensor(p, dtype=torch.float32),
            weight=torch.ones(count) if weight is None else torch.as_tensor(weight),
        ),
        torch.arange(count) if prompts is None else torch.as_tensor(prompts),
    )


def drawn(weights, count: int = 4000, seed: int = 0) -> Table:
    """Features and the votes that these weights make of them."""
    torch.manual_seed(seed)
    x = torch.randn(count, len(weights), dtype=torch.float64)
    return table(x, torch.sigmoid(x @ torch.tensor(weights, dtype=torch.float64)).bernoulli())


def test_one_vote_by_hand():
    # One vote for the first of two answers that differ by 2 in the hidden part and 4 in the other:
    # both are 1 in units of their spread, so (a, b) has sigmoid(-a - b) = ridge * a = 0.1 * b.
    found = probe.fit(table([[2.0, 4.0]], [1.0]), ridge=0.5)
    a, b = found[0].item() * 2, found[1].item() * 4
    assert 0.5 * a == pytest.approx(1 / (1 + math.exp(a + b)), abs=1e-9)
    assert RIDGE_OF_C * b == pytest.approx(0.5 * a, abs=1e-9)


def test_the_weights_that_made_the_votes_are_found():
    weights = [1.0, -0.5, 0.0, 0.3]
    found = probe.best(drawn(weights))
    assert found.weight.tolist() == pytest.approx(weights, abs=0.12)
    assert found.unseen is not None
    assert len(found.unseen.unique()) == 4000  # every vote was foretold by a fold without it


def test_noise_gets_the_strongest_ridge_and_a_plain_truth_a_weak_one():
    torch.manual_seed(1)
    noise = table(torch.randn(300, 60), torch.rand(300).round())
    assert probe.best(noise).ridge == max(probe.RIDGES)
    assert probe.best(drawn([3.0, 0.0, 0.0, 0.0])).ridge < 1


def test_few_votes_on_a_wide_model_have_the_same_answer_as_the_whole_problem():
    torch.manual_seed(2)
    few = table(torch.randn(20, 50), torch.rand(20).round())
    x, p = few.features[:20], few.preferences.p.double()
    scales = torch.full((50,), x[:, :-1].square().sum(1).mean().sqrt().item()).double()
    scales[-1] = x[:, -1].square().mean().sqrt()
    precision = torch.full((50,), 0.3).double()
    precision[-1] = RIDGE_OF_C
    whole = probe.newton(x / scales, p, torch.ones(20).double(), precision) / scales
    assert probe.fit(few, 0.3).tolist() == pytest.approx(whole.tolist(), abs=1e-8)


def test_a_vote_of_more_weight_counts_for_more():
    once = drawn([1.0, 0.5], 40)
    x, p = once.features[:40], once.preferences.p
    twice = table(torch.cat([x, x]), torch.cat([p, p]))
    heavy = table(x, p, [2.0] * 40)
    assert probe.fit(heavy, 1.0).tolist() == pytest.approx(probe.fit(twice, 1.0).tolist())


def test_votes_on_one_prompt_share_a_fold():
    found = drawn([1.0, 0.5], 40)
    alone = dataclasses.replace(found, prompts=torch.zeros(40, dtype=torch.long))
    assert probe.best(alone).unseen is None  # nothing to cross-validate over
    assert probe.best(alone).ridge == probe.WITHOUT_FOLDS


def probe_job(base: Path) -> RewardJob:
    return dataclasses.replace(reward_job(base), form="probe")


def test_features_are_the_mean_state_and_the_contradiction(tiny_base):
    policy = model.load(ModelRef(base=str(tiny_base)))
    encoder = data.Encoder(policy.tokenizer)
    messages = [{"role": "user", "content": "question"}]
    rows = encoder.example(messages, [response("good day"), response("no")], 100)
    found = probe.features(policy, rows)
    for row, exchange in enumerate(rows):
        ids = torch.tensor([exchange.prompt + exchange.response])
        out = policy.causal(input_ids=ids, output_hidden_states=True)
        at = len(exchange.prompt)
        mean = out.hidden_states[-1][0, at:].mean(0)
        assert torch.allclose(found[row, :-1], mean, atol=1e-4)
        chances = out.logits[0, at - 1 : -1].softmax(-1)
        top = chances.max(-1).values
        given = chances.gather(1, ids[0, at:, None]).squeeze(1)
        contradicts = (top**4 * (top / given).log()).sum() ** (1 / 3)
        assert found[row, -1].item() == pytest.approx(-contradicts.item(), abs=1e-3)
    assert (found[:, -1] < 0).all()


def test_what_the_base_would_say_itself_contradicts_nothing(tiny_base):
    policy = model.load(ModelRef(base=str(tiny_base)))
    prompt = torch.tensor([[1, 5, 9]])
    ids = prompt
    for _ in range(6):
        ids = torch.cat([ids, policy.causal(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    exchange = data.Exchange((1, 5, 9), tuple(ids[0, 3:].tolist()))
    found = probe.features(policy, [exchange])
    assert found[0, -1].item() == 0


def test_a_planted_preference_is_found_saved_and_scored_by(rundir, tiny_base):
    folder = rundir(probe_job(tiny_base), comparisons=comparisons(80))
    found = do(reward.work, folder)
    assert found["accuracy"] > 0.8
    assert found["folds_accuracy"] > 0.8
    assert found["temperature"] < 1  # a ridge holds back what noiseless votes would allow
    assert (found["heldout"], found["trained_on"]) == (60, 180)
    assert {"heldout/accuracy", "train/log_loss", "folds/log_loss"} <= {*metrics(folder)[-1]}
    checkpoint.verify(folder / found["weights"], found["sha256"])
    loaded = reward.load(folder / found["weights"])
    messages = [{"role": "user", "content": "question"}]
    texts = ["good abc", "yuck abc"]
    items = [
        {"id": text, "messages": messages, "response": response(text, id=text)} for text in texts
    ]
    judged = rundir(ScoreJob(reward_model=str(folder / "weights")), name="judged", items=items)
    do(score.work, judged)
    rewards = {row["id"]: row["reward"] for row in jobs.read_rows(judged / jobs.SCORES)}
    assert rewards["good abc"] > rewards["yuck abc"]
    encoder = data.Encoder(loaded.policy.tokenizer)
    rows = encoder.example(messages, [response(text) for text in texts], 100)
    with torch.no_grad():
        alone = loaded.scores(rows).tolist()
    assert [rewards[text] for text in texts] == pytest.approx(alone, abs=1e-4)


def test_the_same_votes_give_the_same_bytes(rundir, tiny_base):
    rows = comparisons(24)
    hashes = [
        do(reward.work, rundir(probe_job(tiny_base), name=name, comparisons=rows))["sha256"]
        for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]


def test_an_adapter_under_a_probe_stays_where_it_was(rundir, tiny_base, adapter):
    ref = ModelRef(base=str(tiny_base), adapter=str(adapter))
    job = dataclasses.replace(probe_job(tiny_base), base=ref)
    folder = rundir(job, comparisons=comparisons(12))
    do(reward.work, folder)
    assert reward.load(folder / "weights").policy.ref == ref


def test_a_spoilt_probe_is_noticed(rundir, tiny_base):
    folder = rundir(probe_job(tiny_base), comparisons=comparisons(12))
    do(reward.work, folder)
    path = folder / "weights" / probe.FILE
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"probe\.safetensors"):
        reward.load(folder / "weights")


def test_nothing_to_learn_from_is_said(rundir, tiny_base, capsys):
    folder = rundir(probe_job(tiny_base), comparisons=comparisons(4, heldout=1))
    with pytest.raises(SystemExit):
        do(reward.work, folder)
    assert "no comparisons to train on" in capsys.readouterr().err
