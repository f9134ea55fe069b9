"""Adapters and full weights come and go in the running embedded engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from align import demo

GREEDY = {"temperature": 0, "max_tokens": 24}


def load(engine: Any, name: str, path: Path) -> httpx.Response:
    return engine.post("/v1/load_lora_adapter", lora_name=name, lora_path=str(path))


def unload(engine: Any, name: str) -> httpx.Response:
    return engine.post("/v1/unload_lora_adapter", lora_name=name)


@pytest.fixture
def adapter(embedded: Any, loras: list[Path]) -> Iterator[str]:
    assert load(embedded, "p.1", loras[0]).status_code == 200
    yield "p.1"
    unload(embedded, "p.1")


def test_an_adapter_changes_the_answers_and_the_base_stays_itself(
    embedded: Any, adapter: str
) -> None:
    before = embedded.say(seed=1)
    adapted = embedded.say(seed=1, model=adapter)
    assert adapted != before
    assert embedded.say(seed=1) == before
    assert embedded.models() == ["demo-base", adapter]


def test_an_adapters_log_probabilities_are_peft_s_own(
    embedded: Any, adapter: str, loras: list[Path]
) -> None:
    import torch

    from align.gpu import model as models
    from align.jobs import ModelRef

    policy = models.load(ModelRef(base=str(demo.BASE), adapter=str(loras[0])))
    choice = embedded.complete(embedded.tokens(), model=adapter, logprobs=0, **GREEDY)["choices"][0]
    ids = [*embedded.tokens(), *choice["token_ids"]]
    with torch.inference_mode():
        logits = policy.causal(input_ids=torch.tensor([ids])).logits[0]
    logps = torch.log_softmax(logits.float(), -1)
    first = len(embedded.tokens())
    expected = [float(logps[i - 1, ids[i]]) for i in range(first, len(ids))]
    assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=1e-4)


def test_adapters_take_turns_without_mixing(embedded: Any, loras: list[Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = ["demo-base", "m0", "m1", "m2"]
    for name, folder in zip(names[1:], loras, strict=True):
        assert load(embedded, name, folder).status_code == 200
    try:
        alone = {name: embedded.say(seed=3, model=name) for name in names}
        assert len(set(alone.values())) == 4
        with ThreadPoolExecutor(8) as pool:
            crowd = list(pool.map(lambda k: embedded.say(seed=3, model=names[k % 4]), range(24)))
        assert crowd == [alone[names[k % 4]] for k in range(24)]
    finally:
        for name in names[1:]:
            unload(embedded, name)
    assert embedded.say(seed=3) == alone["demo-base"]


def test_an_unloaded_adapter_is_not_found(embedded: Any, loras: list[Path]) -> None:
    load(embedded, "gone", loras[1])
    assert unload(embedded, "gone").status_code == 200
    reply = embedded.post("/v1/completions", model="gone", prompt="a panda")
    assert reply.status_code == 404
    assert unload(embedded, "gone").status_code == 404
    assert embedded.models() == ["demo-base"]


def test_a_stream_outlives_the_unloading_of_its_adapter(embedded: Any, loras: list[Path]) -> None:
    load(embedded, "leaving", loras[2])
    body = {"model": "leaving", "prompt": "a panda", "max_tokens": 200, "seed": 1}
    body |= {"temperature": 30.0}
    whole = embedded.complete(**body)["choices"][0]["text"]
    with httpx.stream(
        "POST", embedded.url + "/v1/completions", json={**body, "stream": True}, timeout=60
    ) as reply:
        lines = (line for line in reply.iter_lines() if line)
        pieces = [next(lines)]
        assert unload(embedded, "leaving").status_code == 200
        pieces += list(lines)
    assert pieces.pop() == "data: [DONE]"
    said = [json.loads(piece.removeprefix("data: ")) for piece in pieces]
    assert "".join(one["choices"][0]["text"] for one in said) == whole


def test_a_name_never_changes_its_meaning(embedded: Any, adapter: str, loras: list[Path]) -> None:
    reply = load(embedded, adapter, loras[1])
    assert reply.status_code == 400
    assert "taken" in reply.json()["error"]["message"]
    assert load(embedded, "demo-base", loras[1]).status_code == 400
    assert unload(embedded, "demo-base").status_code == 400


def test_a_folder_of_full_weights_is_served_beside_the_base(embedded: Any, tmp_path: Path) -> None:
    full = tmp_path / "full"
    shutil.copytree(demo.BASE, full)
    assert load(embedded, "full", full).status_code == 200
    assert embedded.say(seed=5, model="full") == embedded.say(seed=5)
    assert unload(embedded, "full").status_code == 200
    assert embedded.models() == ["demo-base"]


def test_folders_that_could_run_code_are_refused(
    embedded: Any, loras: list[Path], tmp_path: Path
) -> None:
    for name, content in (("evil.py", "boom"), ("adapter_model.bin", "boom")):
        folder = tmp_path / name.replace(".", "_")
        shutil.copytree(loras[0], folder)
        (folder / name).write_text(content)
        reply = load(embedded, "evil", folder)
        assert reply.status_code == 400
        assert name in reply.json()["error"]["message"]
    assert load(embedded, "evil", tmp_path / "nowhere").status_code == 404
    assert embedded.models() == ["demo-base"]


def test_an_adapter_of_another_model_is_refused_and_leaves_no_trace(
    embedded: Any, tmp_path: Path
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    other = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=1280,
            hidden_size=64,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=2,
        )
    )
    config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(other, config)
    for name, matrix in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(matrix)
    adapted.save_pretrained(str(tmp_path / "other"))
    before = embedded.say(seed=6)
    reply = load(embedded, "other", tmp_path / "other")
    assert reply.status_code == 400
    assert "no adapter of demo-base" in reply.json()["error"]["message"]
    assert embedded.models() == ["demo-base"]
    assert embedded.say(seed=6) == before
