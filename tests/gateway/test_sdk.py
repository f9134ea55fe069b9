"""The unmodified OpenAI SDK against the gateway and a real engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey, Project
from plumbline.gateway.models import Exchange
from plumbline.policies import serving
from plumbline.policies.models import Policy

pytestmark = pytest.mark.sqlite

openai = pytest.importorskip("openai")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]


def exchanges(count: int) -> list[Exchange]:
    """The journal, once it holds that many."""
    deadline = time.monotonic() + 10
    while Exchange.objects.count() < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(Exchange.objects.order_by("id"))


def test_a_chat_is_answered_under_the_immutable_policy_name(sdk: Any, current: Policy) -> None:
    reply = sdk.chat.completions.create(model="current", messages=ASK, temperature=0, max_tokens=20)
    assert reply.model == current.name == "alpha-base"
    assert reply.choices[0].message.content == "The capital of France is Paris."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens > 0
    assert reply.id.startswith("chatcmpl-")
    (exchange,) = exchanges(1)
    assert (exchange.completion_id, exchange.policy, exchange.asked_for, exchange.status) == (
        reply.id,
        current,
        "current",
        200,
    )
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (
        reply.usage.prompt_tokens,
        reply.usage.completion_tokens,
    )
    assert not exchange.streamed


def test_a_stream_says_the_same_piece_by_piece(sdk: Any, current: Policy) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model="alpha-base", messages=ASK, temperature=0, max_tokens=20, stream=True
        )
    )
    assert {chunk.model for chunk in chunks} == {"alpha-base"}
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "The capital of France is Paris."
    assert len(chunks) > 3
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    (exchange,) = exchanges(1)
    assert (exchange.status, exchange.streamed, exchange.completion_id) == (200, True, chunks[0].id)
    assert exchange.completion_tokens is not None
    assert exchange.completion_tokens > 5


def test_a_stream_tells_its_usage_when_asked(sdk: Any, current: Policy) -> None:
    *_, last = sdk.chat.completions.create(
        model="current",
        messages=ASK,
        max_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert last.choices == []
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


def test_plain_completions_and_several_choices(sdk: Any, current: Policy) -> None:
    reply = sdk.completions.create(
        model="current", prompt=["One", "Two"], n=2, max_tokens=4, seed=1, user="someone"
    )
    assert reply.model == "alpha-base"
    assert len(reply.choices) == 4
    pieces = list(sdk.completions.create(model="current", prompt="One", max_tokens=4, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces)


def test_logprobs_pass_through(sdk: Any, current: Policy) -> None:
    reply = sdk.chat.completions.create(
        model="current", messages=ASK, max_tokens=3, logprobs=True, top_logprobs=2
    )
    tokens = reply.choices[0].logprobs.content
    assert len(tokens) == 3
    assert len(tokens[0].top_logprobs) == 2


def test_models_are_the_projects_own(
    sdk: Any, current: Policy, make_adapter: Callable[..., Policy]
) -> None:
    loaded, idle = make_adapter(1), make_adapter(2)
    serving.ensure_loaded(loaded)
    other = Project.objects.create(name="Other", slug="other")
    serving.base_policy(other)
    names = [model.id for model in sdk.models.list()]
    assert sorted(names) == sorted(["current", "alpha-base", loaded.name])
    assert sdk.models.retrieve("current").root == "alpha-base"
    for name in (idle.name, "other-base", "nosuch"):
        with pytest.raises(openai.NotFoundError):
            sdk.models.retrieve(name)


def test_another_projects_policy_does_not_exist(sdk: Any, current: Policy) -> None:
    other = Project.objects.create(name="Other", slug="other")
    serving.base_policy(other)
    for name in ("other-base", "nosuch", "base"):
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.chat.completions.create(model=name, messages=ASK)
        assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="NUL"):
        sdk.chat.completions.create(model="no\0such", messages=ASK)


def test_a_candidate_is_loaded_for_who_asks_for_it_by_its_name(
    sdk: Any, current: Policy, make_adapter: Callable[..., Policy]
) -> None:
    candidate = make_adapter(3)
    assert candidate.name not in serving.served()
    reply = sdk.chat.completions.create(model=candidate.name, messages=ASK, max_tokens=5)
    assert reply.model == candidate.name


def test_a_wrong_key_is_refused(gateway: Any, sdk: Any, current: Policy, secret: str) -> None:
    for wrong in ("nonsense", secret[:-1] + ("a" if secret[-1] != "a" else "b"), "x" * 500):
        stranger = openai.OpenAI(base_url=gateway.url + "/v1", api_key=wrong, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            stranger.chat.completions.create(model="current", messages=ASK)
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_a_key_without_the_scope_is_refused(
    gateway: Any, current: Policy, project: Project, alice: Any
) -> None:
    _, limited = keys.create(project, "feedback only", ["feedback"], alice)
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key=limited, max_retries=0)
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="current", messages=ASK)


def test_a_revoked_key_stops_within_moments(sdk: Any, current: Policy) -> None:
    from django.utils import timezone

    sdk.chat.completions.create(model="current", messages=ASK, max_tokens=2)
    ApiKey.objects.update(revoked_at=timezone.now())
    time.sleep(0.2)
    with pytest.raises(openai.AuthenticationError):
        sdk.chat.completions.create(model="current", messages=ASK, max_tokens=2)


def test_unknown_parameters_are_refused_by_name(sdk: Any, current: Policy) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="current", messages=ASK, extra_body={"top_k": 5})
    assert (caught.value.param, caught.value.code) == ("top_k", "unknown_parameter")


def test_more_than_the_context_holds_is_said_by_the_engine(sdk: Any, current: Policy) -> None:
    long: Any = [{"role": "user", "content": "tea " * 2000}]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="current", messages=long)
    assert caught.value.code == "context_length_exceeded"


def test_a_promotion_leaves_old_streams_alone_and_turns_new_requests(
    sdk: Any, current: Policy, promote: Callable[..., Any], make_adapter: Callable[..., Policy]
) -> None:
    old, new = make_adapter(4, scale=0.5), make_adapter(5)
    promote(old)
    time.sleep(0.15)
    stream = sdk.chat.completions.create(
        model="current", messages=ASK, max_tokens=400, stream=True, seed=1
    )
    first = next(stream)
    promote(new)
    time.sleep(0.15)
    reply = sdk.chat.completions.create(model="current", messages=ASK, max_tokens=4)
    assert reply.model == new.name
    rest = list(stream)
    assert {chunk.model for chunk in [first, *rest]} == {old.name}
    assert rest[-1].choices[0].finish_reason == "length"


def test_many_streams_through_many_promotions_each_have_one_policy_and_no_error(
    sdk: Any, current: Policy, promote: Callable[..., Any], make_adapter: Callable[..., Policy]
) -> None:
    policies = [make_adapter(6), make_adapter(7)]
    for policy in policies:
        promote(policy)
    troubles: list[str] = []
    answered: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                chunks = list(
                    sdk.chat.completions.create(
                        model="current", messages=ASK, max_tokens=24, stream=True
                    )
                )
            except openai.OpenAIError as error:
                troubles.append(repr(error))
                continue
            models = {chunk.model for chunk in chunks}
            if len(models) != 1 or chunks[-1].choices[0].finish_reason is None:
                troubles.append(f"{models} {chunks[-1]}")
            answered.append(models.pop())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        promote(policies[turn % 2])
        time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    assert not troubles
    assert set(answered) == {policy.name for policy in policies}
    assert len(exchanges(len(answered))) == len(answered)
