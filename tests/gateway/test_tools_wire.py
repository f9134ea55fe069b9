"""Tools, JSON schemas and biases in a request: what passes, rebuilt; what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from plumbline.gateway import caps
from plumbline.gateway.caps import Caps
from plumbline.gateway.storing import Texts
from plumbline.gateway.wire import ApiError, Asked, parse

openai = pytest.importorskip("openai")
ASK: dict[str, Any] = {"role": "user", "content": "What is the weather in Paris?"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {"name": "get_weather", "description": "Of today.", "parameters": SCHEMA}
TOOL: dict[str, Any] = {"type": "function", "function": WEATHER}
CHOICE = {"type": "function", "function": {"name": "get_weather"}}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]
CALLED: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": CALLS}
SUNNY: dict[str, Any] = {"role": "tool", "tool_call_id": "c1", "content": "Sunny."}
SHAPE = {"name": "city", "schema": SCHEMA, "strict": True}


def asked(**changes: Any) -> Asked:
    body = {"model": "current", "messages": [ASK], **changes}
    return parse(json.dumps(body).encode(), 512, chat=True)


def refused(**changes: Any) -> str | None:
    with pytest.raises(ApiError) as caught:
        asked(**changes)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    assert error["type"] == "invalid_request_error"
    return error["param"]


def tool(**changes: Any) -> list[Any]:
    return [{"type": "function", "function": {**WEATHER, **changes}}]


def nested(depth: int) -> dict[str, Any]:
    return {"items": nested(depth - 1)} if depth else {}


def test_tools_and_what_is_said_of_them_pass() -> None:
    given = {"tools": [TOOL], "tool_choice": CHOICE, "parallel_tool_calls": False}
    assert {key: asked(**given).body[key] for key in given} == given
    for mode in ("none", "auto", "required"):
        assert asked(tools=[TOOL], tool_choice=mode).body["tool_choice"] == mode


def test_a_conversation_with_calls_and_their_results_passes() -> None:
    turns = [ASK, CALLED, {**SUNNY, "content": [{"type": "text", "text": "Sunny."}]}]
    assert asked(messages=turns).body["messages"] == [ASK, CALLED, SUNNY]


def test_the_best_of_several_is_not_chosen_among_calls() -> None:
    assert refused(best_of=2, tools=[TOOL]) == "best_of"
    assert refused(best_of=2, messages=[ASK, CALLED, SUNNY]) == "best_of"
    assert asked(best_of=2, messages=[ASK]).best_of == 2


def test_a_developer_speaks_as_the_system() -> None:
    turns = asked(messages=[{"role": "developer", "content": "Be brief."}, ASK]).body["messages"]
    assert turns == [{"role": "system", "content": "Be brief."}, ASK]


def test_shapes_of_answers_pass() -> None:
    for shape in (
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": SHAPE},
    ):
        assert asked(response_format=shape).body["response_format"] == shape


def test_biases_pass_with_plain_completions_too() -> None:
    assert asked(logit_bias={"5": -100}).body["logit_bias"] == {"5": -100}
    raw = json.dumps({"model": "current", "prompt": "hi", "logit_bias": {"5": 1.5}}).encode()
    assert parse(raw, 512, chat=False).body["logit_bias"] == {"5": 1.5}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": []}, "tools"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": tool(name="get weather")}, "tools[0].function.name"),
        ({"tools": tool(name="x" * 65)}, "tools[0].function.name"),
        ({"tools": tool(description="x" * 4097)}, "tools[0].function.description"),
        ({"tools": tool(strict="yes")}, "tools[0].function.strict"),
        ({"tools": tool(command="rm")}, "tools[0].function.command"),
        ({"tools": tool(parameters=[])}, "tools[0].function.parameters"),
        ({"tools": tool(parameters={"title": "x" * 20_000})}, "tools[0].function.parameters"),
        ({"tools": tool(parameters=nested(40))}, "tools[0].function.parameters"),
        ({"tools": tool(parameters={"pattern": "x" * 257})}, "tools[0].function.parameters"),
        ({"tools": tool(parameters={"$ref": "http://x/"})}, "tools[0].function.parameters"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": tool(name="other"), "tool_choice": CHOICE}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_object", "json_schema": SHAPE}},
         "response_format.json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
         "response_format.json_schema.schema"),
        ({"logit_bias": {"the": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {str(n): 1 for n in range(301)}}, "logit_bias"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [SUNNY]}, "messages[0].tool_call_id"),
        ({"messages": [{**CALLED, "tool_calls": "c1"}]}, "messages[0].tool_calls"),
        ({"messages": [{**CALLED, "tool_calls": [{"id": "c1"}]}]},
         "messages[0].tool_calls[0].function"),
        ({"messages": [{**ASK, "tool_calls": CALLS}]}, "messages[0]"),
        ({"messages": [{**CALLED, "audio": {"id": "x"}}]}, "messages[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tools_and_shapes_is_named(changes: dict[str, Any], param: str) -> None:
    assert refused(**changes) == param


def test_tools_together_are_bounded() -> None:
    big = {"title": "x" * 19_000}
    many = [
        {"type": "function", "function": {"name": f"f{n}", "parameters": big}} for n in range(6)
    ]
    assert refused(tools=many) == "tools"


def test_caps_and_costs_count_tools_and_schemas_as_prompt() -> None:
    plain, tools = asked(), asked(tools=[TOOL])
    shaped = asked(response_format={"type": "json_schema", "json_schema": SHAPE})
    called = asked(messages=[ASK, CALLED, SUNNY])
    for more in (tools, shaped, called):
        assert caps.cost(more, 512)[0] > caps.cost(plain, 512)[0]
    short = Caps(longest_prompt=len(ASK["content"]))
    caps.keep(short, plain)
    for more in (tools, shaped, called):
        with pytest.raises(ApiError) as caught:
            caps.keep(short, more)
        assert caught.value.status == 413


def test_texts_of_an_answer_that_is_calls_are_kept_whole_and_in_pieces() -> None:
    whole, streamed = Texts(), Texts()
    message = {"role": "assistant", "content": None, "tool_calls": CALLS}
    whole.take({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    pieces: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "get_weather"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    ]
    for piece in pieces:
        streamed.take({"choices": [{"index": 0, "delta": piece}]})
    streamed.take({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    call = {"id": "c1", "name": "get_weather", "arguments": "{}"}
    kept = [{"text": "", "finish_reason": "tool_calls", "tool_calls": [call]}]
    assert whole.answers() == streamed.answers() == kept


def test_biases_reach_the_embedded_engine(sdk: Any, current: Any, engine: Any) -> None:
    reply = httpx.post(f"{engine.url}/tokenize", json={"prompt": "tea"}, trust_env=False)
    token = reply.json()["tokens"][0]
    said = [
        sdk.completions.create(
            model="current", prompt="I like", max_tokens=2, logit_bias={str(token): bias}
        )
        for bias in (100, -100)
    ]
    assert len(set(said[0].choices[0].text)) <= len("tea")
    assert said[0].choices[0].text != said[1].choices[0].text


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [ASK, CALLED, SUNNY]}, "messages[1]"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_what_the_embedded_engine_cannot_do_it_says_by_name(
    sdk: Any, current: Any, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="vLLM supports") as caught:
        sdk.chat.completions.create(**{"model": "current", "messages": [ASK], **changes})
    assert caught.value.param == param


def test_the_embedded_engine_has_no_responses_and_says_so(sdk: Any, current: Any) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="no /v1/responses"):
            sdk.responses.create(model="current", input="Hello.", stream=stream)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        sdk.responses.create(model="nosuch", input="Hello.")
