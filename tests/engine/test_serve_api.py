"""The embedded engine speaks vLLM's API, and an unmodified OpenAI client is content with it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

ASKED = [{"role": "user", "content": "What does a panda eat?"}]


@pytest.fixture(scope="module")
def client(embedded: Any) -> OpenAI:
    return OpenAI(base_url=embedded.url + "/v1", api_key="none", max_retries=0)


def chat(client: OpenAI, **fields: Any) -> Any:
    settings = {"model": "demo-base", "messages": ASKED, "max_tokens": 64, **fields}
    return client.chat.completions.create(**settings)


def test_it_says_that_it_is_well_and_what_it_serves(embedded: Any) -> None:
    assert httpx.get(embedded.url + "/health").status_code == 200
    assert "align" in httpx.get(embedded.url + "/version").json()["version"]
    card = httpx.get(embedded.url + "/v1/models").json()["data"][0]
    assert (card["id"], card["max_model_len"]) == ("demo-base", 512)


def test_an_openai_client_gets_an_answer(client: OpenAI) -> None:
    reply = chat(client, temperature=0)
    assert "panda" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "demo-base"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_says_the_same_as_the_whole_answer(client: OpenAI) -> None:
    whole = chat(client, seed=4)
    chunks = list(chat(client, seed=4, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 3
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


def test_n_answers_differ_and_each_is_streamed_whole(client: OpenAI) -> None:
    whole = chat(client, seed=11, n=4)
    texts = ["", "", "", ""]
    for chunk in chat(client, seed=11, n=4, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert len(set(texts)) > 1


def test_the_text_stops_before_a_stop_string(client: OpenAI) -> None:
    full = chat(client, temperature=0).choices[0].message.content
    stop = full[10:14]
    cut = chat(client, temperature=0, stop=[stop, "never said"]).choices[0]
    assert cut.message.content == full[: full.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.stop_reason == stop
    streamed = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in chat(client, temperature=0, stop=stop, stream=True)
    )
    assert streamed == cut.message.content


def test_an_answer_that_runs_out_of_tokens_says_so(client: OpenAI) -> None:
    choice = chat(client, max_tokens=3, temperature=0).choices[0]
    assert choice.finish_reason == "length"


def test_logprobs_belong_to_the_tokens_they_stand_by(client: OpenAI) -> None:
    choice = chat(client, logprobs=True, top_logprobs=3, temperature=0).choices[0]
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries).startswith(choice.message.content)
    for entry in entries:
        assert entry.logprob <= 0
        assert entry.top_logprobs[0].logprob == entry.logprob  # greedy takes the likeliest
        assert len(entry.top_logprobs) == 3


def test_prompts_may_be_words_or_tokens_one_or_many(embedded: Any) -> None:
    tokens = embedded.tokens()
    words = "<|user|>What does a panda eat?<|end|><|assistant|>"
    replies = [
        embedded.complete(prompt, temperature=0) for prompt in (words, tokens, [words], [tokens])
    ]
    texts = {reply["choices"][0]["text"] for reply in replies}
    assert len(texts) == 1
    assert all(reply["choices"][0]["prompt_token_ids"] == tokens for reply in replies)
    both = embedded.complete([tokens, embedded.tokens("Describe Mars.")], n=2, seed=1)
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    assert both["choices"][3]["prompt_token_ids"] == embedded.tokens("Describe Mars.")


def test_token_ids_hold_the_end_of_turn_and_count_as_usage(embedded: Any) -> None:
    reply = embedded.complete(embedded.tokens(), temperature=0)
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "stop"
    end = embedded.post("/tokenize", prompt="<|end|>").json()["tokens"]
    assert choice["token_ids"][-1:] == end
    assert reply["usage"]["completion_tokens"] == len(choice["token_ids"])
    without = embedded.complete(embedded.tokens(), temperature=0, return_token_ids=False)
    assert without["choices"][0]["token_ids"] is None


def test_tokenize_counts_what_the_prompt_will_cost(embedded: Any) -> None:
    body = {"messages": ASKED}
    opened = embedded.post("/tokenize", **body, add_generation_prompt=True).json()
    closed = embedded.post("/tokenize", **body, add_generation_prompt=False).json()
    assert opened["count"] == len(opened["tokens"]) == closed["count"] + 1
    assert opened["max_model_len"] == 512
    assert opened["count"] == embedded.chat(temperature=0)["usage"]["prompt_tokens"]
    words = embedded.post("/tokenize", prompt="a panda", return_token_strs=True).json()
    assert len(words["token_strs"]) == words["count"]


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        chat(client, model="nobody")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.5),
        ("n", 0),
        ("n", 5000),
        ("max_tokens", 0),
        ("max_tokens", 600),
        ("max_tokens", True),
        ("seed", 2**70),
        ("stop", [""]),
        ("stop", 7),
        ("messages", []),
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user", "content": 3}]),
        ("logprobs", "yes"),
        ("presence_penalty", 0.5),
        ("response_format", {"type": "json_object"}),
        ("stream_options", {"include_usage": True}),
    ],
)
def test_a_bad_field_is_refused_by_name(client: OpenAI, field: str, value: Any) -> None:
    with pytest.raises(BadRequestError) as refusal:
        chat(client, extra_body={field: value})
    assert refusal.value.body["param"] == field
    assert refusal.value.body["message"]


@pytest.mark.parametrize("prompt", [None, "", [], [[]], [["x"]], [999999], [-1], {"a": 1}])
def test_a_prompt_that_is_none_is_refused(embedded: Any, prompt: Any) -> None:
    reply = embedded.post("/v1/completions", model="demo-base", prompt=prompt)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "prompt"


def test_too_long_a_conversation_is_refused_with_its_length(client: OpenAI) -> None:
    long = [{"role": "user", "content": "panda " * 600}]
    with pytest.raises(BadRequestError, match="context length is 512"):
        chat(client, messages=long)


def test_a_body_that_is_no_json_object_is_refused(embedded: Any) -> None:
    for content in (b"{", b"[1]", b"\xff"):
        reply = httpx.post(embedded.url + "/v1/completions", content=content)
        assert reply.status_code == 400
        assert "error" in reply.json()


def test_a_completion_stream_ends_with_done(embedded: Any) -> None:
    body = {"model": "demo-base", "prompt": "hello", "max_tokens": 4, "stream": True, "seed": 1}
    with httpx.stream("POST", embedded.url + "/v1/completions", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] in ("length", "stop")


def test_accents_and_emoji_survive_a_stream(client: OpenAI, embedded: Any) -> None:
    """Bytes of one character may be several tokens; no piece may hold half of one."""
    for seed in range(3):
        chunks = chat(client, seed=seed, temperature=30.0, max_tokens=60, stream=True)
        streamed = "".join(c.choices[0].delta.content or "" for c in chunks)
        whole = chat(client, seed=seed, temperature=30.0, max_tokens=60)
        assert streamed == whole.choices[0].message.content


def test_biases_make_and_forbid_words(embedded: Any) -> None:
    token = embedded.post("/tokenize", prompt="tea").json()["tokens"][0]
    forced = embedded.complete("I like", max_tokens=3, logit_bias={str(token): 100}, logprobs=0)
    assert forced["choices"][0]["token_ids"] == [token] * 3
    assert max(forced["choices"][0]["logprobs"]["token_logprobs"]) < -1  # the model's own
    usual = embedded.complete("I like", max_tokens=1, temperature=0)["choices"][0]["token_ids"]
    other = embedded.complete(
        "I like", max_tokens=1, temperature=0, logit_bias={str(usual[0]): -100}
    )
    assert other["choices"][0]["token_ids"] != usual


@pytest.mark.parametrize("bias", [{"9999999": 1}, {"the": 1}, {"5": 101}, {"5": True}, [5]])
def test_biases_out_of_bounds_are_refused(embedded: Any, bias: object) -> None:
    reply = embedded.post("/v1/completions", prompt="Hi", logit_bias=bias)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "logit_bias")
