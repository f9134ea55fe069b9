"""Where answers lie among what a reward model could learn."""

from __future__ import annotations

import pytest
import torch

from align import jobs
from align.ensemble import Ensemble
from align.gpu import data, features, reward
from align.jobs import FeatureJob, ModelRef, Optimiser, RewardJob, Weights
from tests.align.conftest import do
from tests.align.test_contrast import ASK, OTHER, item
from tests.align.test_reward import comparisons


def test_the_directions_in_which_a_prompts_answers_differ_most_and_not_the_prompts():
    apart = torch.tensor([[1.0, 0.0, 0.1], [-1.0, 0.0, -0.1], [0.0, 3.0, 0.0], [0.0, -3.0, 0.0]])
    prompt = torch.tensor([[100.0, 5.0, 9.0]] * 2 + [[-7.0, 5.0, 1.0]] * 2)
    rows = list((apart + prompt).double())
    found = torch.tensor(features.projected(rows, [2, 2], 2))
    assert found.shape == (4, 2)
    assert found[:, 0].tolist() == pytest.approx([0, 0, 3, -3], abs=1e-9)
    assert found[:2, 1].tolist() == pytest.approx([1.01**0.5, -(1.01**0.5)])
    whole = torch.tensor(features.projected(rows, [2, 2], 9))
    assert torch.pdist(whole).tolist() == pytest.approx(torch.pdist(apart.double()).tolist())


def test_every_answer_that_fits_gets_as_many_numbers(rundir, tiny_base):
    rows = [item(f"a{k}", text) for k, text in enumerate(["good", "bad day", "x" * 90])]
    rows += [item(f"b{k}", text, OTHER) for k, text in enumerate(["xyz", "no", "well"])]
    job = FeatureJob(base=ModelRef(base=str(tiny_base)), dims=2, max_length=60, batch_size=2)
    folder = rundir(job, items=rows)
    assert do(features.work, folder) == {"answers": 5, "skipped": 1}
    found = {row["id"]: row["features"] for row in jobs.read_rows(folder / jobs.FEATURES)}
    assert found.keys() == {"a0", "a1", "b0", "b1", "b2"}
    assert {len(one) for one in found.values()} == {2}


def test_a_bad_job_is_refused(rundir, tiny_base, capsys):
    job = FeatureJob(base=ModelRef(base=str(tiny_base)), dims=0)
    with pytest.raises(SystemExit):
        do(features.work, rundir(job, items=[item("a", "x", ASK)]))
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["tuned", "probe", "apart"])
def test_a_reward_models_margins_are_linear_in_its_features(form, rundir, tiny_base, tmp_path):
    """With as many directions as there are: what its own head says is read off them."""
    base = ModelRef(base=str(tiny_base))
    trained = RewardJob(
        base=base,
        form="probe" if form == "probe" else "tuned",
        ensemble=Ensemble(members=2 if form == "apart" else 1, sharing="adapters"),
        weights=Weights(rank=4),
        optimiser=Optimiser(learning_rate=1e-2, epochs=1, batch_size=8, micro_batch_size=8),
    )
    folder = rundir(trained, "reward", comparisons=comparisons(24))
    do(reward.work, folder)
    texts = ["good" * k + "x" * (k % 5) for k in range(1, 9)]
    rows = [item(f"a{k}", text) for k, text in enumerate(texts)]
    job = FeatureJob(base=base, reward_model=str(folder / jobs.WEIGHTS), dims=1000)
    found = rundir(job, "features", items=rows)
    assert do(features.work, found)["answers"] == len(texts)
    table = {row["id"]: row["features"] for row in jobs.read_rows(found / jobs.FEATURES)}
    x = torch.tensor([table[row["id"]] for row in rows])
    judge = reward.load(folder / jobs.WEIGHTS)
    judge = judge.judges[0] if form == "apart" else judge
    encoder = data.Encoder(judge.policy.tokenizer)
    with torch.no_grad():
        said = judge.scores(encoder.example(ASK, [one["response"] for one in rows], 1000))
    gaps = said.double() - said.double().mean()
    fitted = torch.linalg.lstsq(x.double(), gaps[:, None]).solution
    assert (x.double() @ fitted).squeeze(1).tolist() == pytest.approx(gaps.tolist(), abs=1e-4)
