"""Activation checkpointing costs time and saves memory; no bit of a result is another one."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

from align import jobs
from align.gpu import model, reward, train
from align.gpu.data import Exchange
from align.gpu.logps import sequence_logps
from align.gpu.provenance import fingerprint
from align.gpu.recompute import recompute
from align.jobs import ModelRef, Weights
from tests.align.conftest import byte_tokenizer, do, forked, metrics, pairs, train_job
from tests.align.test_layout import MODELS, ROWS, SIZES, answers, gradients, load
from tests.align.test_reward import comparisons, reward_job

Rundir = Callable[..., Path]


def outcome(folder: Path, kind: str, rows: Sequence[Exchange], **weights: Any) -> tuple[Any, Any]:
    policy = load(kind, folder, rank=4, alpha=12, **weights)
    values = sequence_logps(policy, rows)
    return values.detach(), gradients(policy, (torch.linspace(-1, 2, len(rows)) * values).sum())


def same_bits(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for name, one in mine.items():
        assert torch.equal(one, theirs[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("kind", MODELS)
def test_values_and_gradients_are_the_same_bit_for_bit(
    tmp_path: Path, kind: str, mode: str, precision: str
) -> None:
    settings = {"mode": mode, "precision": precision}
    # The second ones are beyond the sliding window of the model that has one: padded there.
    for rows in (ROWS, [*ROWS, *answers(70, 5, 8)]):
        plain = outcome(tmp_path / "base", kind, rows, **settings)
        twice = outcome(tmp_path / "base", kind, rows, **settings, activation_checkpointing=True)
        assert torch.equal(plain[0], twice[0])
        same_bits(plain[1], twice[1])


def test_layers_are_run_again_for_a_gradient_and_for_nothing_else(tmp_path: Path) -> None:
    policy = load("grouped queries", tmp_path / "base", activation_checkpointing=True)
    calls = []
    policy.backbone.layers[1].mlp.register_forward_pre_hook(lambda *_: calls.append(1))  # type: ignore[union-attr,index]
    with torch.no_grad():
        sequence_logps(policy, ROWS)
    assert len(calls) == 1
    sequence_logps(policy, ROWS).sum().backward()  # type: ignore[no-untyped-call]
    assert len(calls) == 3


def test_dropout_stays_off(tmp_path: Path) -> None:
    """A model whose configuration asks for it: its layers would read it in training mode."""
    made: Any = LlamaForCausalLM
    torch.manual_seed(0)
    made(LlamaConfig(**SIZES, attention_dropout=0.5)).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    ref = ModelRef(base=str(tmp_path / "base"))
    plain = sequence_logps(model.start(ref, Weights(mode="full")), ROWS)
    policy = model.start(ref, Weights(mode="full", activation_checkpointing=True))
    assert not any(module.training for module in policy.model.modules())
    assert torch.equal(sequence_logps(policy, ROWS), plain)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_round_ends_with_the_same_weights(rundir: Rundir, tiny_base: Path, mode: Any) -> None:
    files = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}
    found, logged = [], []
    for on in (False, True):
        job = dataclasses.replace(
            train_job(tiny_base), weights=Weights(mode=mode, activation_checkpointing=on)
        )
        folder = rundir(job, f"{mode}-{on}", examples=pairs())
        do(train.work, folder)
        found.append((folder / jobs.WEIGHTS / files[mode]).read_bytes())
        logged.append(metrics(folder))
    assert found[0] == found[1]
    assert logged[0] == logged[1]


def test_a_reward_model_as_well(rundir: Rundir, tiny_base: Path) -> None:
    found = []
    for on in (False, True):
        weights = Weights(rank=4, activation_checkpointing=on)
        job = dataclasses.replace(reward_job(tiny_base, epochs=1), weights=weights)
        folder = rundir(job, f"on-{on}", comparisons=comparisons(16))
        do(reward.work, folder)
        found.append((folder / jobs.WEIGHTS / "adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_it_may_be_switched_on_between_two_attempts(tiny_base: Path) -> None:
    job = train_job(tiny_base)
    other = dataclasses.replace(
        job, weights=dataclasses.replace(job.weights, activation_checkpointing=True)
    )
    assert fingerprint(job, "data") == fingerprint(other, "data")


def peak(base: Path, on: bool, out: Path) -> int:
    """Bytes that a gradient adds to what is resident, by the kernel's count."""

    def measured() -> None:
        policy = model.start(ModelRef(base=str(base)), Weights(rank=4, activation_checkpointing=on))
        rows = answers(200, *[60] * 50)
        sequence_logps(policy, rows[:1]).sum().backward()  # type: ignore[no-untyped-call]
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        sequence_logps(policy, rows).sum().backward()  # type: ignore[no-untyped-call]
        out.write_text(json.dumps(resident("VmHWM") - before))

    assert forked(measured) == 0
    return int(out.read_text())


def resident(name: str) -> int:
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if name in line).split()[1])


def test_it_takes_a_fraction_of_the_memory(tmp_path: Path) -> None:
    made: Any = LlamaForCausalLM
    config = {**SIZES, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 12}
    made(LlamaConfig(**config)).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    plain, less = (peak(tmp_path / "base", on, tmp_path / "out") for on in (False, True))
    assert less < plain / 2  # 2.8 here: one layer at a time, and the head


def test_a_model_whose_layers_are_not_known_is_refused_by_name(tmp_path: Path) -> None:
    made: Any = BloomForCausalLM
    recompute(made(BloomConfig(vocab_size=262, hidden_size=32, n_layer=2, n_head=4)))
    with pytest.raises(ValueError, match="Linear has no layers that activation checkpointing"):
        recompute(nn.Linear(2, 2))
