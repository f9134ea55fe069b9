"""What is loaded, what is refused, and that the result is what PEFT itself reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from align.gpu import data, model
from align.gpu.logps import sequence_logps
from align.jobs import ModelRef, Weights

BATCH = [data.Exchange((1, 4, 20, 5), (40, 41, 2))]


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "modeling_x.py").write_text("boom"), "modeling_x.py is code"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b""), "may be a pickle"),
        (lambda f: (f / "weights.pt").write_bytes(b""), "may be a pickle"),
        (lambda f: edit(f / "config.json", auto_map={"A": "b.C"}), "has auto_map"),
        (lambda f: edit(f / "tokenizer_config.json", auto_map={"A": "b.C"}), "has auto_map"),
        (lambda f: (f / "config.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no model that loads"),
        (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template"),
    ],
)
def test_a_folder_that_may_not_be_loaded_is_refused_by_name(
    copy: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(copy)
    with pytest.raises(ValueError, match=sentence):
        model.load(ModelRef(base=str(copy)))


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        model.load(ModelRef(base="/nowhere"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"peft_type": "LOHA"}, "only LORA"),
        ({"auto_mapping": {"parent_library": "os"}}, "has auto_mapping"),
        ({"megatron_config": {"a": 1}}, "has megatron_config"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_is_refused(
    tiny_base: Path, adapter: Path, tmp_path: Path, fields: dict[str, Any], sentence: str
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    (copy / "manifest.json").unlink()
    edit(copy / "adapter_config.json", **fields)
    with pytest.raises(ValueError, match=sentence):
        model.load(ModelRef(base=str(tiny_base), adapter=str(copy)))


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_of_a_model_with_other_layers_is_refused(
    tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    (copy / "manifest.json").unlink()
    tensors = load_file(copy / "adapter_model.safetensors")
    moved = {name.replace("layers.1", "layers.5"): tensor for name, tensor in tensors.items()}
    save_file(moved, copy / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="is no adapter of this model"):
        model.load(ModelRef(base=str(tiny_base), adapter=str(copy)))


def test_a_base_whose_weights_are_not_all_there_is_refused(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks the weights of model.norm.weight \(1 missing\)"):
        model.load(ModelRef(base=str(copy)))


def test_a_truncated_base_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="holds no model that loads"):
        model.load(ModelRef(base=str(copy)))


def test_an_altered_adapter_is_refused_because_of_its_manifest(
    tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    edit(copy / "adapter_config.json", lora_alpha=64)
    with pytest.raises(ValueError, match="adapter_config.json"):
        model.load(ModelRef(base=str(tiny_base), adapter=str(copy)))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_fresh_start_equals_what_it_starts_from(tiny_base: Path, mode: Any) -> None:
    model.deterministic(0)
    ref = ModelRef(base=str(tiny_base))
    fresh, bare = model.start(ref, Weights(mode=mode)), model.load(ref)
    with torch.no_grad():
        assert torch.equal(sequence_logps(fresh, BATCH), sequence_logps(bare, BATCH))


def test_lora_trains_matrices_on_all_linear_layers_and_nothing_else(tiny_base: Path) -> None:
    policy = model.start(ModelRef(base=str(tiny_base)), Weights(rank=4))
    names = policy.parameters()
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 7 * 2  # layers, linear layers in each, A and B
    assert not any("lm_head" in name for name in names)


def test_a_warm_start_goes_on_with_the_adapter_it_is_given(tiny_base: Path, adapter: Path) -> None:
    ref = ModelRef(base=str(tiny_base), adapter=str(adapter))
    policy, frozen = model.start(ref, Weights(rank=3)), model.load(ref)
    assert not frozen.parameters()
    shapes = {tuple(p.shape) for n, p in policy.parameters().items() if "q_proj.lora_A" in n}
    assert shapes == {(4, 32)}
    with torch.no_grad():
        assert torch.equal(sequence_logps(policy, BATCH), sequence_logps(frozen, BATCH))


def test_borrowing_the_model_for_another_adapter_leaves_it_as_it_was(
    tiny_base: Path, adapter: Path
) -> None:
    policy = model.start(ModelRef(base=str(tiny_base)), Weights(rank=4))
    before = {name: p.clone() for name, p in policy.parameters().items()}
    other = ModelRef(base=str(tiny_base), adapter=str(adapter))
    with torch.no_grad():
        with model.acting_as(policy, other) as borrowed:
            assert borrowed.model is policy.model
            theirs = sequence_logps(borrowed, BATCH)
        assert torch.equal(theirs, sequence_logps(model.load(other), BATCH))
    after = policy.parameters()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_peft_reads_the_trained_adapter_unmodified(tiny_base: Path, adapter: Path) -> None:
    bare = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(bare, str(adapter)).eval()
    ours = model.load(ModelRef(base=str(tiny_base), adapter=str(adapter)))
    ids = torch.tensor([[1, 4, 20, 5, 40, 41, 2]])
    with torch.no_grad():
        assert torch.equal(theirs(ids).logits, ours.causal(ids).logits)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_base)
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    }


def test_saving_twice_gives_the_same_bytes(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    policy = model.load(ModelRef(base=str(tiny_base), adapter=str(adapter)))
    for name in ("one", "two"):
        model.save(policy, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        assert path.read_bytes() == (adapter / path.name).read_bytes()
