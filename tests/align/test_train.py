"""A training round from job.json to committed weights, on a real (tiny) model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from align import algorithms, jobs
from align.gpu import checkpoint, data, model, optimise, train
from align.gpu import examples as gpu_examples
from align.gpu.logps import sequence_logps
from align.gpu.train import work
from align.jobs import ModelRef, TrainJob, Weights
from align.run import Run
from tests.align.conftest import do, metrics, pair, pairs, response, result, train_job

Rundir = Callable[..., Path]


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a job that must end as a bad one; what it said."""
    with pytest.raises(SystemExit) as stop:
        do(work, folder)
    assert stop.value.code == 2
    return capsys.readouterr().err


def margin(policy: model.Policy, base: Path) -> float:
    """Mean gap between "yes" and "no" answers on a prompt that was not trained on, in nats."""
    encoder = data.Encoder(policy.tokenizer)
    asks = [{"role": "user", "content": "question 99"}]
    rows = encoder.example(asks, [response("yes"), response("no")], 100)
    assert rows is not None
    with torch.no_grad():
        values = sequence_logps(policy, rows)
    return (values[0] - values[1]).item()


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_training_raises_the_margin_and_the_weights_load(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    job = dataclasses.replace(train_job(tiny_base), weights=Weights(mode=mode))
    folder = rundir(job, examples=pairs())
    found = do(work, folder)
    assert found["weights"] == "weights"
    assert (found["steps"], found["examples"], found["dropped"]) == (9, 12, 0)
    assert found["accuracy"] > 0.9
    assert found["margin"] > 0.1
    weights = folder / "weights"
    manifest = checkpoint.verify(weights, found["sha256"])
    assert manifest.metadata["job"] == json.loads((folder / jobs.JOB).read_text())
    assert {"torch", "peft", "plumbline"} <= manifest.metadata["versions"].keys()
    if mode == "lora":
        ref = ModelRef(base=str(tiny_base), adapter=str(weights))
    else:
        ref = ModelRef(base=str(weights))
    before = margin(model.load(ModelRef(base=str(tiny_base))), tiny_base)
    assert margin(model.load(ref), tiny_base) > before + 1


def test_where_policy_and_reference_agree_every_margin_is_exactly_zero(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    for name, start in (("cold", None), ("warm", adapter)):
        folder = rundir(train_job(tiny_base, start, batch_size=12), name, examples=pairs())
        do(work, folder)
        first = metrics(folder)[0]
        assert first["rewards/margins"] == first["rewards/chosen"] == 0
        assert first["rewards/accuracies"] == 0
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)


def test_every_step_logs_the_figures_people_know(rundir: Rundir, tiny_base: Path) -> None:
    folder = rundir(train_job(tiny_base), examples=pairs())
    do(work, folder)
    logged = metrics(folder)
    assert len(logged) == 9
    for values in logged:
        assert {
            "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
            "logps/chosen", "logps/rejected", "grad_norm", "learning_rate", "chosen_longer",
            "drift/chosen", "drift/rejected", "tokens/chosen", "tokens/rejected", "entropy",
            "objective/kl",
        } == values.keys()  # fmt: skip
    events = [json.loads(line) for line in (folder / jobs.EVENTS).read_text().splitlines()]
    progress = [e for e in events if e["type"] == "progress"]
    assert [(e["done"], e["total"]) for e in progress] == [(step, 9) for step in range(1, 10)]
    read = [e["tokens"] for e in progress]
    assert read == sorted(read)
    assert read[-1] == result(folder)["tokens"]


def test_the_optimiser_is_the_fused_one(rundir: Rundir, tiny_base: Path) -> None:
    with training(rundir, train_job(tiny_base), "run", pairs()) as round_:
        assert all(group["fused"] for group in round_.loop.adam.param_groups)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move(
    rundir: Rundir, tiny_base: Path
) -> None:
    with training(rundir, train_job(tiny_base), "run", pairs()) as round_:
        before = {n: p.detach().clone() for n, p in round_.loop.parameters.items()}
        some = next(iter(round_.loop.parameters.values()))
        some.register_hook(lambda gradient: gradient * math.nan)
        with pytest.raises(ValueError, match="gradient norm became nan at step 1 of 9"):
            round_.loop.fit()
        for name, p in round_.loop.parameters.items():
            assert torch.equal(p, before[name])


def test_the_same_job_gives_the_same_weights_and_another_seed_others(
    rundir: Rundir, tiny_base: Path
) -> None:
    one = do(work, rundir(train_job(tiny_base), "one", examples=pairs()))
    two = do(work, rundir(train_job(tiny_base), "two", examples=pairs()))
    other = do(work, rundir(train_job(tiny_base, seed=1), "other", examples=pairs()))
    assert one["sha256"] == two["sha256"] != other["sha256"]


def test_micro_batches_change_nothing_but_memory(rundir: Rundir, tiny_base: Path) -> None:
    rows = [{**row, "weight": 0.5 + n % 3} for n, row in enumerate(pairs())]
    logged, weights = [], []
    for size in (5, 2, 1):
        job = train_job(tiny_base, batch_size=5, micro_batch_size=size, epochs=1)
        folder = rundir(job, f"size-{size}", examples=rows)
        do(work, folder)
        logged.append(metrics(folder))
        weights.append(load_file(folder / "weights" / "adapter_model.safetensors"))
    for other in logged[1:]:
        for mine, theirs in zip(logged[0], other, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    # Adam turns rounding in near-zero gradients into steps of the learning rate at most.
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[2][name], atol=2e-3), name


def test_the_batch_gradient_is_the_weighted_mean_over_the_whole_batch(
    rundir: Rundir, tiny_base: Path
) -> None:
    rows = [{**row, "weight": 0.5 + n % 3} for n, row in enumerate(pairs(5))]
    gradients = []
    for size in (5, 2, 1):
        with training(rundir, train_job(tiny_base, batch_size=5, micro_batch_size=size),
                      f"size-{size}", rows) as round_:  # fmt: skip
            sums = round_.loop._gradient(range(5))
            assert optimise.means(sums)["loss"] == pytest.approx(math.log(2), abs=1e-6)
            gradients.append({n: p.grad.clone() for n, p in round_.loop.parameters.items()
                              if p.grad is not None})  # fmt: skip
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-7), name


def test_cached_reference_values_equal_recomputed_ones(rundir: Rundir, tiny_base: Path) -> None:
    with training(rundir, train_job(tiny_base), "run", pairs()) as round_, torch.no_grad():
        again = round_.logps(list(reversed(range(12))), round_.roles)
        for role, values in again.items():
            cached = round_.frozen["reference"][role]
            assert torch.allclose(values.flip(0), cached, rtol=1e-4)


def test_a_reference_may_be_another_adapter_or_another_model(
    rundir: Rundir, tiny_base: Path, other_base: Path, adapter: Path
) -> None:
    job = train_job(tiny_base)
    alone = {}
    for name, ref in (
        ("adapter", ModelRef(base=str(tiny_base), adapter=str(adapter))),
        ("model", ModelRef(base=str(other_base))),
    ):
        changed = dataclasses.replace(job, references={"reference": ref})
        with training(rundir, changed, name, pairs()) as round_, torch.no_grad():
            round_.policy = model.load(ref)
            expected = round_.logps(range(12), ["chosen"])["chosen"]
            assert torch.allclose(round_.frozen["reference"]["chosen"], expected, rtol=1e-5)
            alone[name] = expected
    assert not torch.allclose(alone["adapter"], alone["model"], rtol=1e-3)


def test_soft_labels_and_weights_reach_the_loss(rundir: Rundir, tiny_base: Path) -> None:
    rows = [pair("q", "aa", "bb", p=0.5), pair("r", "cc", "dd", weight=0.0)]
    folder = rundir(train_job(tiny_base, epochs=8), examples=rows)
    found = do(work, folder)
    assert (found["examples"], found["dropped"]) == (1, 1)
    assert abs(metrics(folder)[-1]["rewards/margins"]) < 0.01


def test_an_anchor_adds_the_chosen_answers_cross_entropy_per_token(
    rundir: Rundir, tiny_base: Path
) -> None:
    rows = [{**row, "weight": 0.5 + n % 3} for n, row in enumerate(pairs(5))]
    found = {}
    for anchor in (0.0, 0.7):
        job = dataclasses.replace(train_job(tiny_base, batch_size=5), anchor=anchor)
        with training(rundir, job, f"anchor-{anchor}", rows) as round_:
            figures = optimise.means(round_.loop._gradient(range(5)))
            parameters = round_.loop.parameters
            gradients = {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}
            found[anchor] = figures, gradients
    # The same by hand: each chosen answer's mean cross-entropy, weighted like its example.
    weights = torch.tensor([row["weight"] for row in rows])
    each = [e.sequences["chosen"] for e in round_.examples]
    lengths = torch.tensor([len(one.response) for one in each])
    assert len(set(lengths.tolist())) > 1
    round_.loop.adam.zero_grad()
    surprise = -sequence_logps(round_.policy, each) / lengths
    extra = (weights * surprise).sum() / weights.sum()
    (0.7 * extra).backward()
    (plain, before), (anchored, after) = found[0.0], found[0.7]
    assert anchored["loss"] == pytest.approx(plain["loss"] + 0.7 * extra.item(), rel=1e-5)
    assert anchored["anchor/cross_entropy"] == pytest.approx(surprise.mean().item(), rel=1e-5)
    assert anchored["rewards/margins"] == plain["rewards/margins"]
    assert "anchor/cross_entropy" not in plain
    for name, parameter in parameters.items():
        by_hand = before[name] + parameter.grad
        assert torch.allclose(after[name], by_hand, rtol=1e-4, atol=1e-6), name


def test_an_anchor_of_nothing_changes_no_bit_and_another_keeps_the_chosen_likely(
    rundir: Rundir, tiny_base: Path
) -> None:
    weights, drift = {}, {}
    for name, anchor in (("unsaid", None), ("none", 0.0), ("some", 1.0)):
        job = train_job(tiny_base)
        folder = rundir(dataclasses.replace(job, anchor=anchor or 0.0), name, examples=pairs())
        if anchor is None:  # as it was asked for before there were anchors
            asked = json.loads((folder / jobs.JOB).read_text())
            del asked["anchor"]
            jobs.write_json(folder / jobs.JOB, asked)
        drift[name] = do(work, folder)["drift_chosen"]
        weights[name] = (folder / "weights" / "adapter_model.safetensors").read_bytes()
    assert weights["unsaid"] == weights["none"] != weights["some"]
    assert drift["some"] > drift["none"]


def empty(prompt: str) -> dict[str, Any]:
    row = pair(prompt, "", "x", id="empty")
    row["responses"]["chosen"]["token_ids"] = []
    return row


def without(role: str) -> dict[str, Any]:
    row = pair("q", "a", "b", id="7")
    del row["responses"][role]
    return row


def test_rows_that_cannot_be_trained_on_are_left_out_and_counted(
    rundir: Rundir, tiny_base: Path
) -> None:
    rows = [
        *pairs(4),
        pair("q", "long " * 50, "short", id="too-long"),
        pair("q", "same", "same", id="twice"),
        empty("q"),
    ]
    folder = rundir(train_job(tiny_base, max_length=60), examples=rows)
    found = do(work, folder)
    assert (found["examples"], found["dropped"]) == (4, 3)
    assert "4 examples to train on, 3 left out" in (folder / jobs.EVENTS).read_text()


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "there are no examples to train on"),
        ([pair("q", "a", "b", id="7", p=1.5)], "example 7 has p = 1.5"),
        ([pair("q", "a", "b", id="7", weight=-1.0)], "example 7 has weight -1.0"),
        ([without("rejected")], "example 7 has no rejected response"),
    ],
)
def test_bad_data_gets_a_sentence(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str], rows: Any, sentence: str
) -> None:
    assert sentence in refused(rundir(train_job(tiny_base), examples=rows), capsys)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"algorithm": "ppo"}, "no algorithm 'ppo'"),
        ({"knobs": {"beta": -1}}, "beta must be above 0"),
        ({"references": {}}, "the job names no policy for reference"),
        ({"start": ModelRef(base="/nowhere")}, "'/nowhere' is not a folder"),
        ({"anchor": -1.0}, "anchor must be 0 or more, not -1.0"),
        ({"anchor": math.nan}, "anchor must be 0 or more, not nan"),
        ({"algorithm": "kto", "anchor": 1.0}, "KTO has no chosen answers for an anchor"),
    ],
)
def test_a_bad_job_gets_a_sentence(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str], change: Any, sentence: str
) -> None:
    job = dataclasses.replace(train_job(tiny_base), **change)
    assert sentence in refused(rundir(job, examples=pairs()), capsys)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"epochs": 0},
        {"checkpoint_every": 0},
        {"max_length": 1},
        {"learning_rate": float("nan")},
        {"learning_rate": 0.0},
        {"warmup_ratio": 2.0},
        {"weight_decay": -1.0},
    ],
)
def test_a_setting_that_cannot_work_is_named(tiny_base: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        optimise.check(train_job(tiny_base, **settings).optimiser)


def test_training_that_blows_up_stops_within_a_step_and_says_so(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = train_job(tiny_base, learning_rate=1e20, warmup_ratio=0.0, max_grad_norm=0.0)
    folder = rundir(job, examples=pairs())
    said = refused(folder, capsys)
    assert "the largest weight became 1e+20 at step 1 of 9" in said
    assert "lower learning rate" in said
    assert not metrics(folder)
    assert not (folder / jobs.RESULT).exists()
    assert not (folder / jobs.WEIGHTS).exists()


def test_learning_rate_warms_up_then_falls_to_zero(tiny_base: Path) -> None:
    settings = train_job(tiny_base, learning_rate=1.0, warmup_ratio=0.2).optimiser
    rates = [optimise.learning_rate(step, 10, settings) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[10] == pytest.approx(0)


def test_each_epoch_sees_every_example_once_in_its_own_order(tiny_base: Path) -> None:
    first, second, _ = optimise.plan(10, train_job(tiny_base).optimiser)
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index in batch) == list(range(10))
        assert [len(batch) for batch in epoch] == [4, 4, 2]
    assert first != second


class training:
    """A round set up and ready, its run directory held for the duration."""

    def __init__(self, rundir: Rundir, job: TrainJob, name: str, rows: list[dict[str, Any]]):
        self.folder = rundir(job, name, examples=rows)

    def __enter__(self) -> train.Round:
        run = Run(self.folder)
        job = run.job
        assert isinstance(job, TrainJob)
        model.deterministic(job.optimiser.seed)
        policy = model.start(job.start, job.weights)
        algorithm = algorithms.get(job.algorithm).build(job.knobs)
        examples, _ = gpu_examples.read(
            self.folder / jobs.EXAMPLES, algorithm, data.Encoder(policy.tokenizer), 100
        )
        return train.Round(run, job, algorithm, policy, examples)

    def __exit__(self, *_: object) -> None:
        return None


def test_a_finished_run_says_what_it_cost(rundir: Rundir, tiny_base: Path) -> None:
    folder = rundir(train_job(tiny_base), examples=pairs())
    do(work, folder)
    found = result(folder)
    assert found["seconds"] > 0
    assert found["tokens"] % 3 == 0  # three epochs over the same tokens
