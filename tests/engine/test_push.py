"""New full weights become live beside the old ones: quickly, exactly, and no request feels it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from align import demo  # noqa: E402
from align.gpu import model as models  # noqa: E402
from align.gpu.answers import Sampling  # noqa: E402
from align.gpu.engine import Engine, Ticket  # noqa: E402
from align.gpu.residents import Residents  # noqa: E402
from align.gpu.sibling import read_tensors, sibling  # noqa: E402

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


@pytest.fixture
def pieces(commit_weights: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Weights as a larger model's are saved: in several files."""
    monkeypatch.setattr(models, "LEAST_PIECE", 1 << 19)
    committed = commit_weights(34, "full")
    assert len(list(committed.path.glob("model-*-of-*.safetensors"))) > 3
    return committed


def test_weights_in_several_files_are_those_of_one(residents: Residents, pieces: Any) -> None:
    kind = residents.base.model.dtype
    read = residents.read("pieces", pieces.path, pieces.sha256).model.state_dict()
    plain = models.load_base(pieces.path, CPU, kind).state_dict()
    assert read.keys() == plain.keys()
    assert all(torch.equal(read[name], plain[name]) for name in plain)


@pytest.mark.parametrize("number", [0, 2, -1])
def test_a_flipped_bit_or_a_lost_byte_in_any_file_is_refused_before_anything_is_served(
    residents: Residents, pieces: Any, number: int
) -> None:
    file = sorted(pieces.path.glob("*.safetensors"))[number]
    whole = file.read_bytes()
    at_head = "is no safetensors file"  # read and refused before all is hashed
    for at, why in ((8, at_head), (len(whole) // 2, "was altered"), (-1, "was altered")):
        harmed = bytearray(whole)
        harmed[at] ^= 4
        file.write_bytes(harmed)
        with pytest.raises(ValueError, match=f"{file.name} {why}"):
            residents.read("harmed", pieces.path, pieces.sha256)
    file.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"{file.name} has {len(whole) - 1} bytes"):
        residents.read("harmed", pieces.path, pieces.sha256)
    assert [one.name for one in residents.all()] == ["base"]


def test_intact_weights_are_refused_under_the_hash_of_others_or_without_a_manifest(
    residents: Residents, commit_weights: Callable[..., Any]
) -> None:
    folder, other = commit_weights(35, "full"), commit_weights(36, "full")
    with pytest.raises(ValueError, match="is not the one expected"):
        residents.read("other", folder.path, other.sha256)
    (folder.path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="never committed"):
        residents.read("other", folder.path, folder.sha256)


def test_tensors_that_do_not_stand_in_line_are_read_one_by_one(
    residents: Residents, tmp_path: Path
) -> None:
    kind = residents.base.model.dtype
    tensors = {"odd": torch.randn(3), "long": torch.randn(70, 5), "last": torch.randn(64)}
    mixed = {"half": torch.randn(64).bfloat16(), "whole": torch.randn(64)}
    for given in (tensors, mixed, {"line": torch.randn(64, 2), "rest": torch.randn(5)}):
        file = tmp_path / "model.safetensors"
        save_file(given, file)
        found = dict(read_tensors(file, kind))
        assert found.keys() == given.keys()
        assert all(torch.equal(found[name], given[name].to(kind)) for name in given)


def test_a_new_model_s_first_answer_goes_before_others_and_only_that(
    residents: Residents, commit_weights: Callable[..., Any]
) -> None:
    engine = Engine(residents, 512)
    seen: list[str] = []

    def ask(resident: Any, name: str, tokens: int) -> Ticket:
        settings = Sampling(max_tokens=tokens, temperature=3.0, seed=1)
        ticket = Ticket(resident, [[2, 3]], settings, True, lambda news: seen.append(name))
        engine.submit(ticket)
        return ticket

    read = residents.read("new", commit_weights(37, "full").path)
    old = ask(residents.base, "old", 400)
    while not seen:
        time.sleep(0.01)
    engine.call(lambda served: served.add(read)).result(timeout=20)
    ask(read, "new", 6)
    while read.debut:
        time.sleep(0.01)
    at = seen.index("new")
    assert seen[at : at + 6] == ["new"] * 6  # and no token of the old model's in between
    ask(read, "again", 6)
    while seen.count("again") < 6:
        time.sleep(0.01)
    old.cancelled.set()
    engine.close()
    residents.unload("new")
    turns = seen[seen.index("again") :]
    assert turns[:8] == ["again", "old"] * 4  # turn about, once it has been heard


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


def test_the_engine_checks_the_hash_it_is_told_and_says_how_long_it_took(
    embedded: Any, commit_weights: Callable[..., Any]
) -> None:
    folder = commit_weights(38, "full")
    asked = {"lora_name": "pushed-38", "lora_path": str(folder.path)}
    refused = embedded.post("/v1/load_lora_adapter", **asked, sha256="0" * 64)
    assert refused.status_code == 400
    assert "is not the one expected" in refused.json()["error"]["message"]
    assert "pushed-38" not in embedded.models()
    taken = embedded.post("/v1/load_lora_adapter", **asked, sha256=folder.sha256)
    assert taken.status_code == 200
    stages = [entry.partition(";dur=")[0] for entry in taken.headers["server-timing"].split(", ")]
    assert stages == ["read", "verified"]
    embedded.post("/v1/unload_lora_adapter", lora_name="pushed-38")
