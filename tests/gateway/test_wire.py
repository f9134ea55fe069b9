"""What the gateway takes and what it refuses, as OpenAI words it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from plumbline.gateway.wire import ApiError, parse
from plumbline.policies.models import Policy

CHAT: dict[str, Any] = {"model": "current", "messages": [{"role": "user", "content": "hi"}]}
PLAIN: dict[str, Any] = {"model": "current", "prompt": "hi"}


def chat(**changes: Any) -> dict[str, Any]:
    return parse(json.dumps({**CHAT, **changes}).encode(), 512, chat=True).body


def refusal(raw: bytes, *, is_chat: bool = True) -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        parse(raw, 512, chat=is_chat)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    assert error["type"] == "invalid_request_error"
    return error


def test_a_plain_question_passes_as_it_is() -> None:
    asked = parse(json.dumps(CHAT).encode(), 512, chat=True)
    assert (asked.model, asked.stream, asked.include_usage) == ("current", False, False)
    assert asked.body == {"messages": CHAT["messages"], "stream": False}


def test_messages_are_rebuilt_from_role_and_text() -> None:
    message = {
        "role": "assistant",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "refusal": None,
        "tool_calls": [],
        "name": "bot",
    }
    assert chat(messages=[message])["messages"] == [{"role": "assistant", "content": "a\nb"}]


def test_who_the_clients_users_are_goes_nowhere() -> None:
    assert "user" not in chat(user="ada@example.org")


def test_what_is_said_of_keeping_texts_does_not_reach_the_engine() -> None:
    kept = {"store": True, "metadata": {"page": "help"}, "user": "ada"}
    asked = parse(json.dumps({**CHAT, **kept}).encode(), 512, chat=True)
    assert asked.body == {"messages": CHAT["messages"], "stream": False}
    assert asked.stored is not None
    assert (asked.stored.user, asked.stored.metadata) == ("ada", {"page": "help"})
    assert parse(json.dumps({**CHAT, "user": "ada"}).encode(), 512, chat=True).stored is None


def test_nulls_count_as_not_given() -> None:
    assert chat(temperature=None, stop=None) == chat()


def test_a_stream_always_tells_the_journal_its_usage() -> None:
    asked = parse(json.dumps({**CHAT, "stream": True}).encode(), 512, chat=True)
    assert asked.body["stream_options"] == {"include_usage": True}
    assert not asked.include_usage


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 513}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "audio": {"id": 1}}]}, "messages[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"best_of": 20}, "best_of"),
        ({"store": "yes"}, "store"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"store": True, "metadata": {"a": 1}}, "metadata"),
        ({"store": True, "metadata": {"a" * 65: "b"}}, "metadata"),
        ({"store": True, "metadata": {str(n): "b" for n in range(17)}}, "metadata"),
        ({"prompt": "hi"}, "prompt"),
        ({"lora_path": "/etc"}, "lora_path"),
    ],
)
def test_what_is_out_of_bounds_is_named(changes: dict[str, Any], param: str) -> None:
    assert refusal(json.dumps({**CHAT, **changes}).encode())["param"] == param


def test_an_image_is_not_fetched_for_a_client() -> None:
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
    error = refusal(
        json.dumps({**CHAT, "messages": [{"role": "user", "content": [part]}]}).encode()
    )
    assert "type text only" in error["message"]


@pytest.mark.parametrize(
    "changes",
    [{"prompt": ""}, {"prompt": []}, {"prompt": [1, 2]}, {"prompt": ["a"] * 9, "n": 8}],
)
def test_prompts_are_strings_and_few(changes: dict[str, Any]) -> None:
    refusal(json.dumps({**PLAIN, **changes}).encode(), is_chat=False)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"3", b"\xff", b'{"a": NaN}', b'{"model": "\\ud800"}', b"[" * 100_000],
)
def test_a_body_that_is_no_request_is_said_to_be_none(raw: bytes) -> None:
    assert "JSON" in refusal(raw)["message"]


def test_every_answer_names_its_request(http: httpx.Client, current: Policy) -> None:
    good = http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 2})
    assert good.headers["x-policy-version"] == "alpha-base"
    assert good.headers["x-request-id"].startswith("req_")
    assert set(good.json()) == {"id", "object", "created", "model", "choices", "usage"}
    bad = http.post("/v1/chat/completions", json={**CHAT, "nosuch": 1})
    assert bad.headers["x-request-id"] != good.headers["x-request-id"]
    stream = http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 2, "stream": True})
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["x-policy-version"] == "alpha-base"
    assert stream.text.endswith("data: [DONE]\n\n")


def test_other_addresses_and_methods_are_refused_in_the_same_shape(http: httpx.Client) -> None:
    for method, path, status in [
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/load_lora_adapter", 404),
        ("POST", "/tokenize", 404),
        ("POST", "/pause", 404),
        ("POST", "/collective_rpc", 404),
        ("POST", "/reset_prefix_cache", 404),
        ("GET", "/v1/weights", 404),
        ("POST", "/v1/weights", 404),
    ]:
        reply = http.request(method, path)
        assert reply.status_code == status
        assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_refused(http: httpx.Client) -> None:
    reply = http.post("/v1/chat/completions", content=b"x" * (2 << 20))
    assert reply.status_code == 413


def test_no_key_is_401(http: httpx.Client) -> None:
    for value in ("", "Basic YTpi", "Bearer", "Bearer x"):
        reply = http.get("/v1/models", headers={"authorization": value})
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["error"]["code"] == "invalid_api_key"
