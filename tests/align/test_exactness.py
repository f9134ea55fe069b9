"""Loss and gradient of a batch are those of fp64 and one row at a time, up to fp32's rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from align import algorithms, jobs
from align.gpu import data, examples, model, train
from align.jobs import ModelRef, TrainJob, Weights
from align.run import Run
from tests.align.conftest import byte_tokenizer, pair, train_job
from tests.align.test_layout import SIZES

Rundir = Callable[..., Path]
BETA = 0.1
SHAPES: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "tied embeddings": {"num_key_value_heads": 4, "tie_word_embeddings": True},
}


@pytest.fixture(params=SHAPES)
def apart(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A policy some way from its reference, and the reference."""
    torch.manual_seed(0)
    build: Any = LlamaForCausalLM
    built = build(LlamaConfig(**{**SIZES, **SHAPES[request.param]}))
    for name in ("reference", "policy"):
        built.save_pretrained(tmp_path / name)
        byte_tokenizer().save_pretrained(tmp_path / name)
        with torch.no_grad():
            for p in built.parameters():
                p.add_(torch.randn_like(p), alpha=0.02)
    return tmp_path / "policy", tmp_path / "reference"


def long_pairs() -> list[dict[str, Any]]:
    """Answers of 60 to 200 tokens: some -1,000 nats. Every third prompt is asked twice."""
    letters = "the quick brown fox jumps over the lazy dog "

    def words(count: int, start: int) -> str:
        return (letters[start % 40 :] + letters * 5)[:count]

    return [
        pair(f"why {n - n % 3 // 2}?", words(60 + 20 * n, n), words(200 - 15 * n, 7 * n), id=str(n))
        for n in range(8)
    ]


def ready(rundir: Rundir, job: TrainJob, name: str, rows: list[dict[str, Any]]) -> train.Round:
    """A round before its first step."""
    run = Run(rundir(job, name, examples=rows))
    model.deterministic(0)
    policy = model.start(job.start, job.weights)
    algorithm = algorithms.get(job.algorithm).build(job.knobs)
    encoder = data.Encoder(policy.tokenizer)
    found, _ = examples.read(run.folder / jobs.EXAMPLES, algorithm, encoder, 500)
    return train.Round(run, job, algorithm, policy, found)


def dpo(apart: tuple[Path, Path], **settings: Any) -> TrainJob:
    policy, reference = (ModelRef(base=str(folder)) for folder in apart)
    return replace(
        train_job(apart[0], **{"batch_size": 8, "micro_batch_size": 8, **settings}),
        knobs={"beta": BETA},
        start=policy,
        references={"reference": reference},
        weights=Weights(mode="full"),
    )


def gradients(round_: train.Round) -> dict[str, Tensor]:
    found = {n: p.grad.double() for n, p in round_.loop.parameters.items() if p.grad is not None}
    round_.loop.adam.zero_grad()
    return found


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of whole gradients, in the Euclidean norm, relative."""
    assert found.keys() == expected.keys()

    def size(parts: Iterator[Tensor]) -> float:
        return float(sum(part.square().sum().item() for part in parts) ** 0.5)

    off = size(found[name] - one for name, one in expected.items())
    return off / size(iter(expected.values()))


def textbook(apart: tuple[Path, Path], round_: train.Round) -> tuple[float, dict[str, Tensor]]:
    """DPO in fp64, one row at a time, by the formula and nothing else."""
    mine, reference = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64) for folder in apart
    )
    reference.requires_grad_(False)

    def logp(of: Any, row: data.Exchange) -> Tensor:
        logits = of(torch.tensor([row.prompt + row.response])).logits[0, len(row.prompt) - 1 : -1]
        tokens: Tensor = logits.log_softmax(-1).gather(-1, torch.tensor(row.response)[:, None])
        return tokens.sum()

    total, weights = 0.0, sum(e.weight for e in round_.examples)
    for example in round_.examples:
        chosen, rejected = (example.sequences[role] for role in ("chosen", "rejected"))
        gaps = [logp(of, chosen) - logp(of, rejected) for of in (mine, reference)]
        loss = -logsigmoid(BETA * (gaps[0] - gaps[1])) * example.weight / weights
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total, {n: p.grad for n, p in mine.named_parameters() if p.grad is not None}


def test_neither_micro_batches_nor_their_measure_change_the_weighted_mean(
    rundir: Rundir, apart: tuple[Path, Path]
) -> None:
    rows = [{**row, "weight": 0.5 + n % 3} for n, row in enumerate(long_pairs())]
    expected: tuple[float, dict[str, Tensor]] | None = None
    counts = []
    for size, tokens in ((8, 0), (3, 0), (1, 0), (8, 10**6), (8, 600), (8, 1)):
        job = dpo(apart, micro_batch_size=size, micro_batch_tokens=tokens)
        round_ = ready(rundir, job, f"{size}-{tokens}", rows)
        expected = expected or textbook(apart, round_)
        counts.append(len(round_.loop.cuts.of(range(8))))
        sums = round_.loop._gradient(range(8))
        assert sums["loss"][0] / sums["loss"][1] == pytest.approx(expected[0], rel=1e-6)
        assert distance(gradients(round_), expected[1]) < 2e-6
    assert counts[0] == counts[3] == 1
    assert counts[2] == counts[5] == 8
    assert 1 < counts[4] < 8


def test_a_batch_of_long_answers_has_the_loss_and_gradient_of_fp64(
    rundir: Rundir, apart: tuple[Path, Path]
) -> None:
    rows = [{**row, "weight": 0.5 + n % 3} for n, row in enumerate(long_pairs())]
    round_ = ready(rundir, dpo(apart), "run", rows)
    assert min(round_.frozen["reference"]["chosen"].tolist()) < -1_000
    sums = round_.loop._gradient(range(8))
    found = gradients(round_)
    loss, expected = textbook(apart, round_)
    assert sums["loss"][0] / sums["loss"][1] == pytest.approx(loss, rel=1e-6)
    assert distance(found, expected) < 2e-6
