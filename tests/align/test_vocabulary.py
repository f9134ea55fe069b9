"""The head in chunks, LoRA layers and bf16: the plain computation's numbers, for less."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from align.gpu import model, train, vocabulary
from align.gpu.data import Exchange
from align.gpu.logps import sequence_divergences, sequence_logps
from align.gpu.lora import Linear, quicken
from align.gpu.vocabulary import pick
from align.jobs import ModelRef, Weights
from tests.align.conftest import do, metrics, pairs, train_job
from tests.align.test_layout import ROWS, close, gradients
from tests.align.test_train import refused

Rundir = Callable[..., Path]
WIDTH = 262  # of the tiny model's vocabulary


def trained(base: Path, mode: Any) -> model.Policy:
    torch.manual_seed(0)
    policy = model.start(ModelRef(base=str(base)), Weights(mode=mode, rank=4, alpha=12))
    for name, p in policy.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(p, 0, 0.05)
    return policy


def test_pick_is_the_log_softmax_and_its_gradient() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 30) * 5, torch.randint(30, (7,))
    weight = torch.randn(7)
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    values = pick(first * 1, targets)
    expected = second.log_softmax(-1)[torch.arange(7), targets]
    assert torch.allclose(values, expected, atol=1e-6)
    (values * weight).sum().backward()
    (expected * weight).sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    assert torch.allclose(first.grad, second.grad, atol=1e-6)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_logits_of_no_more_than_a_chunk_exist_at_once_and_nothing_changes(
    tiny_base: Path, other_base: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    policy = trained(tiny_base, mode)
    other = model.load(ModelRef(base=str(other_base)))

    def run(chunk: int) -> tuple[list[Tensor], dict[str, Tensor], int]:
        monkeypatch.setattr(vocabulary, "CHUNK", {"cpu": chunk})
        seen: list[int] = []
        head = policy.causal.get_output_embeddings()
        hook = head.register_forward_hook(lambda _, __, out: seen.append(out.numel()))
        values = [sequence_logps(policy, ROWS), sequence_divergences(policy, other, ROWS)]
        with torch.no_grad():  # what the reference pass says, to the bit
            assert torch.equal(sequence_logps(policy, ROWS), values[0])
        found = gradients(policy, sum(one.square().mean() for one in values))
        hook.remove()
        return values, found, max(seen)

    values, slopes, most = run(2**24)
    again, others, bounded = run(5 * WIDTH + 1)
    assert most > 10 * bounded
    assert bounded == 5 * WIDTH
    for mine, theirs in zip(again, values, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    close(others, slopes)


def test_a_frozen_head_is_run_once_and_a_learning_one_again_only_beyond_what_is_kept(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK", {"cpu": 10 * WIDTH})
    counts = {}
    for mode in ("lora", "full"):
        policy = trained(tiny_base, mode)
        seen: list[int] = []
        head = policy.causal.get_output_embeddings()
        head.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(len(inputs[0])))
        gradients(policy, sequence_logps(policy, ROWS).sum())
        counts[mode] = sum(seen)
    positions = sum(len(row.response) for row in ROWS[:-1])  # the last row is another one again
    kept = 10 * vocabulary.KEPT
    assert counts == {"lora": positions, "full": positions + positions - kept}


def test_lora_layers_say_what_pefts_say(tiny_base: Path) -> None:
    policy = trained(tiny_base, "lora")
    layers = [one for one in policy.model.modules() if isinstance(one, Linear)]
    assert len(layers) == 14
    values = sequence_logps(policy, ROWS)
    found = gradients(policy, values.mean())
    for layer in layers:
        del vars(layer)["forward"]
    expected = sequence_logps(policy, ROWS)
    close(found, gradients(policy, expected.mean()))
    assert torch.allclose(values, expected, rtol=1e-6)


def test_lora_layers_with_more_to_them_go_pefts_way(tiny_base: Path) -> None:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    adapted: Any = get_peft_model(base, LoraConfig(r=4, use_dora=True, target_modules="all-linear"))
    ids = torch.arange(3, 9)[None]
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, 0, 0.05)
    with torch.no_grad():
        before = adapted(ids).logits
        quicken(adapted)
        assert torch.equal(adapted(ids).logits, before)
        with adapted.disable_adapter():
            bare = AutoModelForCausalLM.from_pretrained(tiny_base)(ids).logits
            assert torch.equal(adapted(ids).logits, bare)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_bf16_costs_digits_but_neither_the_zero_margin_nor_fp32_weights(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        weights = Weights(mode=mode, rank=4, alpha=8, precision=precision)
        job = dataclasses.replace(train_job(tiny_base, batch_size=12), weights=weights)
        folder = rundir(job, precision, examples=pairs())
        do(train.work, folder)
        found[precision] = [values["loss"] for values in metrics(folder)]
        first = metrics(folder)[0]
        assert first["rewards/margins"] == first["rewards/chosen"] == 0
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert found["bf16"] != found["fp32"]
    assert found["bf16"] == pytest.approx(found["fp32"], abs=5e-3)
    policy = model.start(ModelRef(base=str(tiny_base)), Weights(mode=mode, precision="bf16"))
    assert {p.dtype for p in policy.parameters().values()} == {torch.float32}
    assert policy.padded is None
    values = sequence_logps(policy, [Exchange((3, 4), (5, 6))])
    assert values.dtype == torch.float64


def test_an_unknown_precision_is_refused(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights: Any = Weights(precision="fp8")  # type: ignore[arg-type]
    job = dataclasses.replace(train_job(tiny_base), weights=weights)
    said = refused(rundir(job, examples=pairs()), capsys)
    assert "precision must be auto, fp32 or bf16, not fp8" in said
