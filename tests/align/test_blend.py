"""A reward that also counts the base model's likelihood, weighed by held-out votes."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
import torch

from align import jobs
from align.gpu import blend, data, model, reward, score
from align.gpu.blend import Blend
from align.gpu.logps import sequence_logps
from align.jobs import ModelRef, ScoreJob
from tests.align.conftest import do, response
from tests.align.test_reward import comparisons, reward_job


def drawn(weights: tuple[float, float], count: int = 4000):
    """Differences and the votes that these weights make of them."""
    torch.manual_seed(0)
    verdicts, logps = torch.randn(count), 5 * torch.randn(count)
    p = torch.sigmoid(weights[0] * verdicts + weights[1] * logps).bernoulli()
    return verdicts, logps, p, torch.ones(count)


def test_the_weights_that_made_the_votes_are_found():
    found = blend.fit(*drawn((1.5, 0.2)))
    assert found.verdict == pytest.approx(1.5, abs=0.15)
    assert found.likelihood == pytest.approx(0.2, abs=0.03)


def test_one_vote_by_hand():
    # Both differences have a spread of their own size, so x = (1, 1) in its units and w1 = w2 = w
    # with sigmoid(-2 w) = w: the misfit's slope against the prior's.
    found = blend.fit(*(torch.tensor([x]) for x in (2.0, 4.0, 1.0, 1.0)))
    w = found.verdict * 2
    assert w == pytest.approx(1 / (1 + math.exp(2 * w)), abs=1e-9)
    assert found.likelihood * 4 == pytest.approx(w, abs=1e-9)


def test_votes_against_a_part_leave_it_out():
    found = blend.fit(*drawn((1.0, -0.3)))
    assert found.likelihood == 0
    assert found.verdict > 0


def test_votes_against_both_leave_the_verdict_as_it_was_trained():
    assert blend.fit(*drawn((-1.0, -0.3))) == Blend(1.0, 0.0)


def test_a_vote_of_more_weight_counts_for_more():
    verdicts, logps, p, weight = drawn((1.0, 0.1), 50)
    twice = [torch.cat([x, x]) for x in (verdicts, logps, p, weight)]
    heavy = blend.fit(verdicts, logps, p, 2 * weight)
    again = blend.fit(*twice)
    assert heavy.verdict == pytest.approx(again.verdict, rel=1e-6)


@pytest.fixture
def trained(rundir, tiny_base: Path):
    """A reward model that leans on its base, and the result of its training."""
    job = dataclasses.replace(reward_job(tiny_base, epochs=2), likelihood=True)
    folder = rundir(job, comparisons=comparisons())
    return folder, do(reward.work, folder)


def test_the_score_is_the_blend_and_comes_back_from_disk(trained, rundir, tiny_base):
    folder, result = trained
    weights = result["blend"]
    assert weights["verdict"] > 0
    items = [
        {
            "id": str(k),
            "messages": [{"role": "user", "content": "question"}],
            "response": response(text),
        }
        for k, text in enumerate(["good answer", "yuck", "good", "a yuck answer"])
    ]
    base = ModelRef(base=str(tiny_base))
    judged = rundir(
        ScoreJob(reward_model=str(folder / "weights"), policies={"base": base}),
        name="judged",
        items=items,
    )
    do(score.work, judged)
    rows = list(jobs.read_rows(judged / jobs.SCORES))
    loaded = reward.load(folder / "weights")
    assert loaded.blend == Blend(**weights)
    loaded.blend = None
    plain = [verdict(loaded, item) for item in items]
    for row, alone in zip(rows, plain, strict=True):
        expected = weights["verdict"] * alone + weights["likelihood"] * row["logps"]["base"]
        assert row["reward"] == pytest.approx(expected, abs=1e-4)


def verdict(judge: reward.RewardModel, item) -> float:
    encoder = data.Encoder(judge.policy.tokenizer)
    (exchange,) = encoder.example(item["messages"], [item["response"]], 1024)
    with torch.no_grad():
        return judge.scores(data.collate([exchange], judge.policy.device)).item()


def test_a_spoilt_blend_is_noticed(trained):
    folder, _ = trained
    path = folder / "weights" / blend.FILE
    path.write_text(json.dumps({"verdict": 5.0, "likelihood": 0.0}))
    with pytest.raises(ValueError, match=r"blend\.json"):
        reward.load(folder / "weights")


def test_without_held_out_votes_the_verdict_stands_alone(rundir, tiny_base):
    job = dataclasses.replace(reward_job(tiny_base, epochs=1), likelihood=True)
    folder = rundir(job, comparisons=comparisons(12, heldout=0))
    result = do(reward.work, folder)
    assert "blend" not in result
    assert reward.load(folder / "weights").blend is None


def test_full_weights_have_no_base_left_to_lean_on(rundir, tiny_base, capsys):
    job = dataclasses.replace(reward_job(tiny_base, "full"), likelihood=True)
    folder = rundir(job, comparisons=comparisons(8))
    with pytest.raises(SystemExit):
        do(reward.work, folder)
    assert "train an adapter" in capsys.readouterr().err


def test_the_base_below_an_adapter_is_the_base(adapter, tiny_base):
    bare = model.load(ModelRef(base=str(tiny_base)))
    adapted = model.load(ModelRef(base=str(tiny_base), adapter=str(adapter)))
    encoder = data.Encoder(bare.tokenizer)
    text = "".join(random.Random(1).choice("abcdef ") for _ in range(20))
    exchanges = encoder.example([{"role": "user", "content": "q"}], [response(text)], 64)
    batch = data.collate(exchanges, bare.device)
    with torch.no_grad():
        mine, theirs = sequence_logps(adapted, batch), sequence_logps(bare, batch)
    assert not torch.allclose(mine, theirs)
    assert torch.equal(blend.base_logps(adapted, batch), theirs)
