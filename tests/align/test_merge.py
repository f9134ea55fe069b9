"""Averages of policies in weight space, made of real (tiny) adapters and models."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from align import jobs
from align.gpu import checkpoint, data, model, train
from align.gpu.logps import sequence_logps
from align.gpu.merge import work
from align.jobs import MergeJob, ModelRef, Weights
from tests.align.conftest import do, forked, pairs, response, train_job
from tests.align.test_checkpoint import dying_at

Rundir = Callable[..., Path]
TENSORS = "adapter_model.safetensors"


@pytest.fixture(scope="session")
def other_adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second adapter on the same base, of another rank, scale and seed."""
    folder = tmp_path_factory.mktemp("other_adapter")
    job = train_job(tiny_base, seed=5)
    fields = {**jobs.to_json(job), "weights": {"mode": "lora", "rank": 2, "alpha": 6}}
    jobs.write_json(folder / jobs.JOB, fields)
    jobs.write_rows(folder / jobs.EXAMPLES, pairs())
    do(train.work, folder)
    return folder / jobs.WEIGHTS


def ref(base: Path, adapter: Path | None = None) -> ModelRef:
    return ModelRef(base=str(base), adapter=str(adapter) if adapter else None)


def merge(**parts: tuple[ModelRef, float]) -> MergeJob:
    return MergeJob(
        policies={name: one for name, (one, _) in parts.items()},
        shares={name: share for name, (_, share) in parts.items()},
    )


def logps(one: ModelRef) -> Tensor:
    """Of a few answers, (4,), through the loader that training and scoring use."""
    policy = model.load(one)
    encoder = data.Encoder(policy.tokenizer)
    asks = [{"role": "user", "content": "question 99"}]
    rows = encoder.example(asks, [response(t) for t in ("yes", "no", "yes!!", "no....")], 100)
    assert rows is not None
    with torch.no_grad():
        return sequence_logps(policy, rows)


def products(adapter: Path) -> dict[str, Tensor]:
    """What an adapter adds to each layer's weight."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    factors = load_file(adapter / TENSORS)
    scale = config["lora_alpha"] / config["r"]
    return {
        name.removesuffix(".lora_A.weight"): scale * factors[name.replace("_A.", "_B.")] @ tensor
        for name, tensor in factors.items()
        if ".lora_A." in name
    }


def test_an_average_of_a_policy_with_itself_is_the_policy(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    one = ref(tiny_base, adapter)
    folder = rundir(merge(a=(one, 0.3), b=(one, 0.7)))
    found = do(work, folder)
    assert found["mode"] == "lora"
    merged = ref(tiny_base, folder / found["weights"])
    assert torch.allclose(logps(merged), logps(one), atol=1e-4)
    assert not torch.allclose(logps(merged), logps(ref(tiny_base)), atol=1e-2)


def test_adapters_of_different_ranks_are_averaged_as_products(
    rundir: Rundir, tiny_base: Path, adapter: Path, other_adapter: Path
) -> None:
    job = merge(a=(ref(tiny_base, adapter), 0.25), b=(ref(tiny_base, other_adapter), 0.75))
    folder = rundir(job)
    do(work, folder)
    mine, one, other = (products(p) for p in (folder / "weights", adapter, other_adapter))
    assert mine.keys() == one.keys() == other.keys()
    for name, product in mine.items():
        expected = 0.25 * one[name] + 0.75 * other[name]
        assert torch.allclose(product, expected, atol=1e-6), name
    config = json.loads((folder / "weights" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 6)


def test_an_average_with_the_bare_base_scales_the_adapters_product(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    folder = rundir(merge(trained=(ref(tiny_base, adapter), 0.6), first=(ref(tiny_base), 0.4)))
    do(work, folder)
    mine, whole = products(folder / "weights"), products(adapter)
    for name, product in mine.items():
        assert torch.allclose(product, 0.6 * whole[name], atol=1e-7), name
    scaled = folder / "scaled"
    shutil.copytree(adapter, scaled)
    (scaled / checkpoint.MANIFEST).unlink()
    factors = load_file(adapter / TENSORS)
    save_file({n: 0.6 * t if "_B." in n else t for n, t in factors.items()}, scaled / TENSORS)
    found = logps(ref(tiny_base, folder / "weights"))
    assert torch.allclose(found, logps(ref(tiny_base, scaled)), atol=1e-4)


def test_a_share_of_zero_leaves_a_policy_out(
    rundir: Rundir, tiny_base: Path, other_base: Path, adapter: Path
) -> None:
    job = merge(a=(ref(tiny_base, adapter), 1.0), b=(ref(other_base), 0.0))
    folder = rundir(job)
    assert do(work, folder)["mode"] == "lora"
    merged = ref(tiny_base, folder / "weights")
    assert torch.allclose(logps(merged), logps(ref(tiny_base, adapter)), atol=1e-5)


def test_full_weights_are_averaged_tensor_by_tensor(
    rundir: Rundir, tiny_base: Path, other_base: Path, adapter: Path
) -> None:
    """An adapter among them is merged into its base first."""
    parts = {"a": (ref(tiny_base, adapter), 0.25), "b": (ref(other_base), 0.75)}
    folder = rundir(merge(**parts))
    found = do(work, folder)
    assert found["mode"] == "full"
    names = [dict(model.load(one, full=True).model.named_parameters()) for one, _ in parts.values()]
    mine = dict(model.load(ref(folder / "weights"), full=True).model.named_parameters())
    assert mine.keys() == names[0].keys()
    for name, p in mine.items():
        expected = 0.25 * names[0][name] + 0.75 * names[1][name]
        assert torch.allclose(p, expected, atol=1e-6), name
    assert logps(ref(folder / "weights")).isfinite().all()  # with tokenizer and template


def test_the_result_is_committed_and_loads_with_peft_itself(
    rundir: Rundir, tiny_base: Path, adapter: Path, other_adapter: Path
) -> None:
    job = merge(a=(ref(tiny_base, adapter), 0.5), b=(ref(tiny_base, other_adapter), 0.5))
    folder = rundir(job)
    found = do(work, folder)
    manifest = checkpoint.verify(folder / "weights", found["sha256"])
    assert manifest.metadata["job"] == json.loads((folder / jobs.JOB).read_text())
    base = AutoModelForCausalLM.from_pretrained(str(tiny_base))
    theirs = PeftModel.from_pretrained(base, str(folder / "weights")).eval()
    ours = model.load(ref(tiny_base, folder / "weights"))
    ids = torch.arange(6, 40)[None]
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, ours.causal(ids).logits, atol=1e-5)


def test_an_average_can_be_averaged_and_trained_on(
    rundir: Rundir, tiny_base: Path, adapter: Path, other_adapter: Path
) -> None:
    job = merge(a=(ref(tiny_base, adapter), 0.5), b=(ref(tiny_base, other_adapter), 0.5))
    first = rundir(job, "first")
    do(work, first)
    again = rundir(
        merge(a=(ref(tiny_base, first / "weights"), 0.5), b=(ref(tiny_base), 0.5)), "again"
    )
    do(work, again)
    one, half = products(first / "weights"), products(again / "weights")
    for name, product in half.items():
        assert torch.allclose(product, 0.5 * one[name], atol=1e-7), name
    training = rundir(train_job(tiny_base, first / "weights", epochs=1), "go-on", examples=pairs())
    assert do(train.work, training)["steps"] == 3


def test_the_same_job_gives_the_same_bytes_killed_or_not(
    rundir: Rundir, tiny_base: Path, adapter: Path, other_adapter: Path
) -> None:
    job = merge(a=(ref(tiny_base, adapter), 0.5), b=(ref(tiny_base, other_adapter), 0.5))
    whole = do(work, rundir(job, "whole"))["sha256"]
    for at in (1, 4, 8):
        folder = rundir(job, f"killed-{at}")

        def crash(folder: Path = folder, at: int = at) -> None:
            dying_at(at)
            do(work, folder)

        assert forked(crash) == -signal.SIGKILL
        assert do(work, folder)["sha256"] == whole
        assert not list(folder.glob(f"{checkpoint.STRAY}*"))


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        do(work, folder)
    assert stop.value.code == 2
    assert not (folder / jobs.WEIGHTS).exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ({"a": 0.5, "b": 0.6}, "shares must sum to 1, not 1.1"),
        ({"a": float("nan"), "b": 1.0}, "shares must be numbers"),
        ({"a": float("inf"), "b": float("-inf")}, "shares must be numbers"),
        ({"a": 1.0}, "every policy to average needs a share"),
        ({}, "every policy to average needs a share"),
    ],
)
def test_shares_that_are_none_get_a_sentence(
    rundir: Rundir,
    tiny_base: Path,
    adapter: Path,
    capsys: pytest.CaptureFixture[str],
    shares: Mapping[str, float],
    sentence: str,
) -> None:
    policies = {"a": ref(tiny_base, adapter), "b": ref(tiny_base)}
    assert sentence in refused(rundir(MergeJob(policies=policies, shares=shares)), capsys)


def altered(adapter: Path, folder: Path, drop: str = "", **config: Any) -> Path:
    """A copy with a changed configuration, and without the layers whose name holds `drop`."""
    shutil.copytree(adapter, folder)
    (folder / checkpoint.MANIFEST).unlink()
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    factors = load_file(adapter / TENSORS)
    save_file({n: t for n, t in factors.items() if not drop or drop not in n}, folder / TENSORS)
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"drop": "q_proj"}, "do not change the same layers"),
        ({"rank_pattern": {"q_proj": 2}}, "uses rank_pattern, which cannot be averaged"),
        ({"use_dora": True}, "uses use_dora, which cannot be averaged"),
        ({"peft_type": "IA3"}, "only LORA adapters are loaded"),
    ],
)
def test_adapters_that_do_not_fit_get_a_sentence(
    rundir: Rundir,
    tiny_base: Path,
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: Any,
    sentence: str,
) -> None:
    odd = altered(adapter, tmp_path / "odd", **changes)
    job = merge(a=(ref(tiny_base, adapter), 0.5), b=(ref(tiny_base, odd), 0.5))
    assert sentence in refused(rundir(job), capsys)


def test_a_tensor_that_is_no_factor_is_refused_by_name(
    rundir: Rundir, tiny_base: Path, adapter: Path, tmp_path: Path, capsys: Any
) -> None:
    odd = altered(adapter, tmp_path / "odd")
    save_file({**load_file(odd / TENSORS), "head.bias": torch.zeros(1)}, odd / TENSORS)
    said = refused(rundir(merge(a=(ref(tiny_base, odd), 1.0))), capsys)
    assert "has head.bias, which is no LoRA factor" in said


def test_rank_stabilised_adapters_keep_their_own_scale(
    rundir: Rundir, tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    odd = altered(adapter, tmp_path / "odd", use_rslora=True)
    folder = rundir(merge(a=(ref(tiny_base, odd), 1.0)))
    do(work, folder)
    found = logps(ref(tiny_base, folder / "weights"))
    assert torch.allclose(found, logps(ref(tiny_base, odd)), atol=1e-4)


def test_averaging_nothing_but_the_base_is_refused(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = merge(a=(ref(tiny_base), 0.5), b=(ref(tiny_base), 0.5))
    assert "there is nothing to average" in refused(rundir(job), capsys)


def test_models_of_different_shapes_are_refused(
    rundir: Rundir, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    shutil.copytree(tiny_base, small)
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    job = merge(a=(ref(tiny_base), 0.5), b=(ref(small), 0.5))
    assert f"{small} has other weights than {tiny_base}" in refused(rundir(job), capsys)


def test_a_policy_that_was_trained_in_full_averages_with_one_that_was_not(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    full = dataclasses.replace(train_job(tiny_base, epochs=1), weights=Weights(mode="full"))
    trained = rundir(full, "trained", examples=pairs())
    do(train.work, trained)
    parts = {"a": (ref(trained / "weights"), 0.5), "b": (ref(tiny_base, adapter), 0.5)}
    folder = rundir(merge(**parts), "average")
    assert do(work, folder)["mode"] == "full"
    assert (folder / "weights" / "tokenizer.json").is_file()
    assert logps(ref(folder / "weights")).isfinite().all()
