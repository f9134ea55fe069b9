"""Which two answers teach most about taste: alike in what they contradict, unlike else."""

from __future__ import annotations

import pytest
import torch

from align import jobs
from align.gpu import contrast, data, model, probe
from align.jobs import ContrastJob, ModelRef
from tests.align.conftest import do, response

ASK = [{"role": "user", "content": "well?"}]
OTHER = [{"role": "user", "content": "and then?"}]


def item(key: str, text: str, messages=ASK):
    return {"id": key, "messages": messages, "response": response(text)}


def pairs(folder):
    return list(jobs.read_rows(folder / jobs.CONTRASTS))


def test_of_the_pairs_that_contradict_alike_the_farthest_apart():
    # Contradictions -1 -1 -1 -4 -4: four of ten pairs differ by nothing; a tenth is one pair.
    states = torch.tensor([[0.0, 0.0], [3.0, 0.0], [1.0, 0.0], [9.0, 9.0], [0.0, 9.0]])
    contradicts = torch.tensor([-1.0, -1.001, -1.01, -4.0, -9.0])
    features = torch.cat([states, contradicts[:, None]], dim=1)
    assert contrast.contrast(features) == (0, 1)
    # Of 28 pairs three are looked at: the two nearest ones in d do not win if they are twins.
    eight = torch.zeros(8, 2)
    eight[:, 1] = -(torch.arange(8.0) ** 2)
    eight[1, 1], eight[2, 1] = -0.1, -0.3  # d: 0, 0.1, 0.3, 9, ...
    eight[0, 0], eight[2, 0] = -1.0, 5.0
    assert contrast.contrast(eight) == (0, 2)


def test_two_answers_are_the_pair():
    assert contrast.contrast(torch.tensor([[0.0, -1.0], [5.0, -9.0]])) == (0, 1)


def test_each_prompt_gets_the_pair_that_its_features_say(rundir, tiny_base):
    texts = ["good", "bad day", "xyz", "good day to you", "no"]
    rows = [item(f"a{k}", text) for k, text in enumerate(texts)]
    rows += [item(f"b{k}", text, OTHER) for k, text in enumerate(texts[:3])]
    job = ContrastJob(base=ModelRef(base=str(tiny_base)), batch_size=3)
    folder = rundir(job, items=rows)
    assert do(contrast.work, folder) == {"prompts": 2, "skipped": 0}
    policy = model.load(job.base)
    encoder = data.Encoder(policy.tokenizer)
    for row, messages, name, count in zip(pairs(folder), (ASK, OTHER), "ab", (5, 3), strict=True):
        exchanges = encoder.example(messages, [response(text) for text in texts[:count]], 100)
        i, j = contrast.contrast(probe.features(policy, exchanges))
        assert row == {"first": f"{name}{i}", "second": f"{name}{j}"}


def test_an_answer_too_long_and_one_alone_are_in_no_pair(rundir, tiny_base):
    rows = [item("a", "good"), item("b", "bad"), item("long", "x" * 90), item("lone", "hm", OTHER)]
    job = ContrastJob(base=ModelRef(base=str(tiny_base)), max_length=60)
    folder = rundir(job, items=rows)
    assert do(contrast.work, folder) == {"prompts": 1, "skipped": 1}
    assert pairs(folder) == [{"first": "a", "second": "b"}]


def test_an_id_twice_and_an_empty_batch_are_refused(rundir, tiny_base, capsys):
    base = ModelRef(base=str(tiny_base))
    with pytest.raises(SystemExit):
        do(contrast.work, rundir(ContrastJob(base=base), items=[item("a", "x"), item("a", "y")]))
    assert "two rows with the id 'a'" in capsys.readouterr().err
    job = ContrastJob(base=base, batch_size=0)
    with pytest.raises(SystemExit):
        do(contrast.work, rundir(job, "empty", items=[item("a", "x")]))
    assert "batch_size must be at least 1, not 0" in capsys.readouterr().err
