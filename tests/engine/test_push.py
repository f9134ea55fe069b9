"""New full weights become live beside the old ones: quickly, exactly, and no request feels it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from align import demo  # noqa: E402
from align.gpu import model as models  # noqa: E402
from align.gpu.residents import Residents  # noqa: E402
from align.gpu.sibling import sibling  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def residents(request: pytest.FixtureRequest) -> Residents:
    return Residents("base", demo.BASE, 512, request.param)


def test_pushed_weights_are_those_the_ordinary_way_would_load(
    residents: Residents, commit_weights: Callable[..., Any]
) -> None:
    folder = commit_weights(31, "full").path
    kind = residents.base.model.dtype
    twin, plain = (
        sibling(residents.base.model, demo.BASE, folder),
        models.load_base(folder, CPU, kind),
    )
    assert twin is not None
    mine, theirs = twin.state_dict(), plain.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    ids = torch.tensor([[2, 5, 9, 4]])
    with torch.inference_mode():
        assert torch.equal(twin(ids).logits, plain(ids).logits)


def test_a_push_is_batched_like_the_base_and_shares_its_tokenizer_if_it_is_the_same(
    residents: Residents, commit_weights: Callable[..., Any]
) -> None:
    read = residents.read("pushed", commit_weights(32, "full").path)
    assert read.alone is None
    assert (
        read.model.config._attn_implementation == residents.base.model.config._attn_implementation
    )
    residents.add(read)
    with pytest.raises(ValueError, match="is taken"):
        residents.read("pushed", read.path)
    residents.unload("pushed")


def test_weights_that_were_altered_are_not_pushed(
    residents: Residents, commit_weights: Callable[..., Any]
) -> None:
    folder = commit_weights(33, "full").path
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="model.safetensors"):
        residents.read("altered", folder)
    assert [one.name for one in residents.all()] == ["base"]


def test_another_architecture_takes_the_ordinary_way(residents: Residents, tmp_path: Path) -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=1280, hidden_size=64, intermediate_size=64, num_hidden_layers=1
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    residents.base.tokenizer.save_pretrained(tmp_path)
    assert sibling(residents.base.model, demo.BASE, tmp_path) is None
    assert residents.read("other", tmp_path).model.config.hidden_size == 64
