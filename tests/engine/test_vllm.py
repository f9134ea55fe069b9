"""Real vLLM and the embedded engine are one to everything that talks to them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from align import jobs
from align.demo import prompts

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

GREEDY = {"temperature": 0, "max_tokens": 64}


def shape(value: Any) -> Any:
    """The keys of an answer, without its values."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return type(value).__name__


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What vLLM answers with a value and we do not answer, or not in the same type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        gone = [f"{path}.{k}" for k in theirs if k not in ours and theirs[k] not in ("NoneType",)]
        both = ours.keys() & theirs.keys()
        return gone + [lack for k in both for lack in missing(ours[k], theirs[k], f"{path}.{k}")]
    if isinstance(theirs, list) and isinstance(ours, list):
        pairs = zip(ours, theirs, strict=False)
        return [lack for one, other in pairs for lack in missing(one, other, f"{path}[]")]
    return [] if ours == theirs else [f"{path}: {ours} is not {theirs}"]


def test_both_engines_tokenize_alike(embedded: Any, vllm: Any) -> None:
    for text in prompts.texts("heldout")[:10]:
        body = {"messages": [{"role": "user", "content": text}], "add_generation_prompt": True}
        assert embedded.post("/tokenize", **body).json() == vllm.post("/tokenize", **body).json()


def test_greedy_answers_are_the_same_token_by_token(embedded: Any, vllm: Any) -> None:
    asked = [embedded.tokens(text) for text in prompts.texts("heldout")[:24]]
    ours, theirs = (
        [choice["token_ids"] for choice in engine.complete(asked, **GREEDY)["choices"]]
        for engine in (embedded, vllm)
    )
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 23


def test_log_probabilities_agree(embedded: Any, vllm: Any) -> None:
    tokens = embedded.tokens()
    ours, theirs = (
        engine.complete(tokens, logprobs=0, **GREEDY)["choices"][0]["logprobs"]["token_logprobs"]
        for engine in (embedded, vllm)
    )
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_answers_have_the_shape_of_vllm_s(embedded: Any, vllm: Any) -> None:
    ask = {"logprobs": 1, "seed": 1, "n": 2, **GREEDY, "temperature": 1.0}
    chat = {"logprobs": True, "top_logprobs": 2, "return_token_ids": True, **GREEDY}
    for ours, theirs in (
        (embedded.complete("a panda", **ask), vllm.complete("a panda", **ask)),
        (embedded.chat(**chat), vllm.chat(**chat)),
    ):
        for reply in (ours, theirs):
            reply.pop("system_fingerprint", None)
            for choice in reply["choices"]:
                if "text" in choice:
                    choice["logprobs"]["top_logprobs"] = []
        assert missing(shape(ours), shape(theirs)) == []


def test_streams_have_the_shape_of_vllm_s(embedded: Any, vllm: Any) -> None:
    body = {"model": "demo-base", "messages": [{"role": "user", "content": "Describe Mars."}]}
    body |= {"stream": True, "stream_options": {"include_usage": True}, **GREEDY}
    streams = []
    for engine in (embedded, vllm):
        url = engine.url + "/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as reply:
            lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
        assert lines.pop() == "[DONE]"
        chunks = [json.loads(line) for line in lines]
        for chunk in chunks:
            chunk.pop("system_fingerprint", None)
        streams.append(chunks)
    ours, theirs = streams
    said = [
        "".join(c["choices"][0]["delta"].get("content") or "" for c in one if c["choices"])
        for one in streams
    ]
    assert said[0] == said[1]
    for index in (0, 1, -2, -1):
        assert missing(shape(ours[index]), shape(theirs[index])) == []


@pytest.mark.parametrize(
    "body",
    [
        {"model": "nobody", "prompt": "x"},
        {"model": "demo-base", "prompt": "x", "max_tokens": 600},
        {"model": "demo-base", "prompt": "x", "temperature": -1},
        {"model": "demo-base", "prompt": "x", "top_p": 2},
        {"model": "demo-base"},
    ],
)
def test_errors_are_told_in_the_same_words(embedded: Any, vllm: Any, body: dict[str, Any]) -> None:
    ours, theirs = (engine.post("/v1/completions", **body) for engine in (embedded, vllm))
    assert ours.status_code == theirs.status_code
    for field in ("type", "param", "code"):
        assert ours.json()["error"][field] == theirs.json()["error"][field]


def test_an_adapter_says_the_same_on_both(embedded: Any, vllm: Any, loras: list[Path]) -> None:
    for engine in (embedded, vllm):
        body = {"lora_name": "pair.1", "lora_path": str(loras[0])}
        assert engine.post("/v1/load_lora_adapter", **body).status_code == 200
    try:
        asked = [embedded.tokens(text) for text in prompts.texts("heldout")[:8]]
        ours, theirs, base = (
            [c["token_ids"] for c in engine.complete(asked, model=name, **GREEDY)["choices"]]
            for engine, name in ((embedded, "pair.1"), (vllm, "pair.1"), (vllm, "demo-base"))
        )
        assert ours != base
        # Random adapters leave near-ties between tokens, which rounding may decide either way.
        same = sum(a[:8] == b[:8] for a, b in zip(ours, theirs, strict=True))
        assert same >= 7
    finally:
        for engine in (embedded, vllm):
            reply = engine.post("/v1/unload_lora_adapter", lora_name="pair.1")
            assert reply.status_code == 200
            gone = engine.post("/v1/completions", model="pair.1", prompt="x")
            assert gone.status_code == 404


def test_the_sampling_job_runs_on_vllm_as_it_is(vllm: Any, tmp_path: Path) -> None:
    job = jobs.SampleJob(
        engine_url=vllm.url, model="demo-base", n=3, max_tokens=64, chunk=4, seed=3
    )
    jobs.write_json(tmp_path / jobs.JOB, jobs.to_json(job))
    asked = [
        {"id": f"p{i}", "messages": [{"role": "user", "content": text}]}
        for i, text in enumerate(prompts.texts("train")[:10])
    ]
    jobs.write_rows(tmp_path / jobs.PROMPTS, asked)
    subprocess.run([sys.executable, "-m", "align.sample", str(tmp_path)], check=True, timeout=60)
    rows = list(jobs.read_rows(tmp_path / jobs.COMPLETIONS))
    assert [(row["prompt"], row["draw"]) for row in rows] == [
        (f"p{i}", k) for i in range(10) for k in range(3)
    ]
    assert len({row["text"] for row in rows}) > 15
    ended = [row for row in rows if row["finish_reason"] == "stop"]
    assert ended
    assert len({row["token_ids"][-1] for row in ended}) == 1  # the end of turn
