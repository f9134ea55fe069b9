"""The unmodified OpenAI package against the gateway before real vLLM: tools, schemas, responses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import RunningGateway, start_gateway  # noqa: F401

openai = pytest.importorskip("openai")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"warm": {"type": "boolean"}, "unit": {"enum": ["C", "F"]}},
    "required": ["warm", "unit"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "parameters": SCHEMA, "strict": True}
TOOL: Any = {"type": "function", "function": WEATHER}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
FLAT: Any = {"type": "function", **WEATHER}


@pytest.fixture
def served(
    start_gateway: Callable[[str], RunningGateway],  # noqa: F811
    project: Any,
    alice: Any,
    vllm: Any,
    settings: Any,
) -> tuple[str, str]:
    """The gateway's address and a key; `current` is the base."""
    from plumbline.accounts import keys
    from plumbline.policies import serving

    settings.ENGINE, settings.ENGINE_URL, settings.BASE_NAME = "vllm", vllm.url, "demo-base"
    running = start_gateway(vllm.url)
    base = serving.base_policy(project)
    serving.promote(project, base, actor=alice, reason="test", evidence={})
    return running.url, keys.create(project, "app", ["infer"], alice)[1]


@pytest.fixture
def sdk(served: tuple[str, str]) -> Any:
    return openai.OpenAI(base_url=served[0] + "/v1", api_key=served[1], max_retries=0, timeout=120)


@pytest.fixture
def spaces(vllm: Any) -> dict[str, float]:
    """Biases against tokens of white space alone, which a tiny model would write without an end."""
    words = [" " * n for n in range(1, 17)] + ["\n" * n for n in range(1, 5)]
    words += ["\t", "\r", "\r\n", " \n", "\n "]
    found = set()
    for word in words:
        found |= set(vllm.post("/tokenize", prompt=word, add_special_tokens=False).json()["tokens"])
    return {str(token): -100.0 for token in found}


def exchanges(count: int) -> list[Any]:
    from plumbline.gateway.models import Exchange

    deadline = time.monotonic() + 15
    while Exchange.objects.count() < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(Exchange.objects.order_by("id"))


def fits(arguments: str) -> bool:
    said = json.loads(arguments)
    return set(said) == {"warm", "unit"} and said["warm"] in (True, False) and said["unit"] in "CF"


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_that_is_asked_for_fits_its_schema(sdk: Any, spaces: Any, choice: Any) -> None:
    reply = sdk.chat.completions.create(
        model="current", messages=ASK, tools=[TOOL], tool_choice=choice, max_tokens=120,
        logit_bias=spaces, seed=1,
    )  # fmt: skip
    assert reply.model == "alpha-base"
    message = reply.choices[0].message
    assert message.content is None
    assert [call.function.name for call in message.tool_calls][:1] == ["get_weather"]
    assert all(fits(call.function.arguments) for call in message.tool_calls)


def test_a_streamed_call_comes_in_pieces_that_fit_together(sdk: Any, spaces: Any) -> None:
    stream = sdk.chat.completions.create(
        model="current", messages=ASK, tools=[TOOL], tool_choice=NAMED, max_tokens=120,
        logit_bias=spaces, seed=1, stream=True,
    )  # fmt: skip
    name, arguments, models = "", "", set()
    for chunk in stream:
        models.add(chunk.model)
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, models) == ("get_weather", {"alpha-base"})
    assert fits(arguments)


def test_a_call_and_its_result_go_back_into_the_conversation(sdk: Any) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"unit": "C"}'},
    }
    turns = [*ASK, {"role": "assistant", "tool_calls": [call]}]
    turns.append({"role": "tool", "tool_call_id": "call_1", "content": "Sunny."})
    reply = sdk.chat.completions.create(model="current", messages=turns, tools=[TOOL], max_tokens=6)
    assert reply.usage.completion_tokens


def test_an_answer_is_of_the_shape_that_was_asked_for(sdk: Any, spaces: Any) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
    for stream in (False, True):
        reply = sdk.chat.completions.create(
            model="current", messages=ASK, response_format=shape, max_tokens=120,
            logit_bias=spaces, seed=1, stream=stream,
        )  # fmt: skip
        if stream:
            said = "".join(one.choices[0].delta.content or "" for one in reply if one.choices)
        else:
            said = reply.choices[0].message.content
        assert fits(said)
    free = sdk.chat.completions.create(
        model="current", messages=ASK, response_format={"type": "json_object"}, max_tokens=200,
        logit_bias=spaces, frequency_penalty=2, seed=1,
    )  # fmt: skip
    assert isinstance(json.loads(free.choices[0].message.content), dict)


def test_biases_choose_words(sdk: Any, vllm: Any) -> None:
    token = vllm.post("/tokenize", prompt="tea", add_special_tokens=False).json()["tokens"][0]
    reply = sdk.completions.create(
        model="current", prompt="I like", max_tokens=3, logit_bias={str(token): 100}
    )
    one = vllm.post("/detokenize", tokens=[token]).json()["prompt"]
    assert reply.choices[0].text == one * 3


def test_samples_seeds_stops_and_logprobs_pass(sdk: Any) -> None:
    asked: dict[str, Any] = {"model": "current", "messages": ASK, "max_tokens": 12, "seed": 7}
    first, again = (sdk.chat.completions.create(**asked, n=3) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert len(texts) == 3
    assert texts == [choice.message.content for choice in again.choices]
    stopped = sdk.chat.completions.create(**{**asked, "temperature": 0}, stop=["France"])
    assert stopped.choices[0].message.content == "The capital of "
    told = sdk.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    assert len(told.choices[0].logprobs.content[0].top_logprobs) == 2


def test_a_response_is_answered_under_our_names(sdk: Any, project: Any) -> None:
    from plumbline.gateway import ids

    raw = sdk.responses.with_raw_response.create(
        model="current", input="What is the capital of France?", instructions=None, temperature=0,
        max_output_tokens=20, store=False,
    )  # fmt: skip
    reply = raw.parse()
    assert (reply.model, reply.status, reply.output_text) == ("alpha-base", "completed", PARIS)
    assert raw.headers["x-policy-version"] == "alpha-base"
    assert reply.id.startswith("resp_")
    assert ids.belongs(reply.id, project.pk)
    assert raw.headers["x-request-id"] == f"req_{ids.request(reply.id)}"
    (exchange,) = exchanges(1)
    assert (exchange.completion_id, exchange.status) == (reply.id, 200)
    used = (reply.usage.input_tokens, reply.usage.output_tokens)
    assert (exchange.prompt_tokens, exchange.completion_tokens) == used
    on = [*[{"role": "user", "content": "Hello."}], *[one.model_dump() for one in reply.output]]
    more = sdk.responses.create(
        model="current", input=[*on, *ASK], max_output_tokens=3, store=False
    )
    assert (more.status, more.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_streamed_response_ends_with_the_whole(sdk: Any) -> None:
    with sdk.responses.stream(
        model="current", input="What is the capital of France?", temperature=0
    ) as stream:
        events = list(stream)
        whole = stream.get_final_response()
    assert whole.output_text == PARIS
    said = [one.delta for one in events if one.type == "response.output_text.delta"]
    assert "".join(said) == PARIS
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert {events[0].response.id, whole.id} == {whole.id}
    assert [one.sequence_number for one in events] == list(range(len(events)))
    (exchange,) = exchanges(1)
    assert (exchange.completion_id, exchange.status, exchange.streamed) == (whole.id, 200, True)
    assert exchange.completion_tokens == whole.usage.output_tokens
    *_, last = sdk.responses.create(
        model="current", input="Hello.", max_output_tokens=2, stream=True
    )
    assert last.type == "response.incomplete"


def test_a_response_calls_tools_and_keeps_to_a_schema(sdk: Any) -> None:
    only = {"enum": ["warm", "cold"]}
    shape = {"format": {"type": "json_schema", "name": "weather", "schema": only}}
    bounded: dict[str, Any] = {"model": "current", "temperature": 0, "max_output_tokens": 200}
    shaped = sdk.responses.create(**bounded, input="The weather?", text=shape)
    assert shaped.text.format.name == "weather"
    assert shaped.status == "completed"
    assert json.loads(shaped.output_text) in only["enum"]
    called = sdk.responses.create(
        **bounded, input="The weather?", tools=[FLAT], tool_choice="required"
    )
    assert [tool.name for tool in called.tools] == ["get_weather"]
    if called.status == "completed":  # a tiny model may fill its call with white space instead
        assert all(fits(one.arguments) for one in called.output if one.type == "function_call")


def test_a_client_that_leaves_a_response_stops_it(served: tuple[str, str], vllm: Any) -> None:
    url, secret = served
    body = {"model": "current", "input": "Tell me.", "stream": True, "temperature": 2}
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.stream("POST", f"{url}/v1/responses", json=body, headers=headers) as reply:
        lines = reply.iter_lines()
        while "output_text.delta" not in next(lines):
            pass
    (exchange,) = exchanges(1)
    assert exchange.status in (200, 499)  # a short answer may have been over
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if httpx.get(f"{vllm.url}/load").json()["server_load"] == 0:
            return
        time.sleep(0.05)
    raise AssertionError("vLLM goes on with an answer that nobody waits for")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
        ({"conversation": "conv_x"}, "conversation"),
        ({"background": True}, "background"),
        ({"extra_body": {"cache_salt": "x"}}, "cache_salt"),
        ({"input": [{"type": "item_reference", "id": "msg_x"}]}, "input[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
    ],
)
def test_what_a_response_may_not_ask_is_refused_by_name(
    sdk: Any, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**{"model": "current", "input": "Hello.", **changes})
    assert caught.value.param == param


def test_routes_of_the_engine_are_not_the_gateways(served: tuple[str, str]) -> None:
    url, secret = served
    headers = {"authorization": f"Bearer {secret}"}
    for path in ("v1/embeddings", "v1/load_lora_adapter", "tokenize", "sleep", "v1/responses/x"):
        reply = httpx.post(f"{url}/{path}", json={"model": "current"}, headers=headers)
        assert reply.status_code == 404
        assert reply.json()["error"]["type"] == "invalid_request_error"


def test_many_at_once_each_get_their_own(sdk: Any) -> None:
    found: list[str] = []

    def ask() -> None:
        reply = sdk.responses.create(model="current", input="Hello.", max_output_tokens=4)
        found.append(reply.id)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 6
