"""Endpoints that refuse the usual names: learned from one refusal, by a real client over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from align import chat
from align.manners import Manners
from tests.scripted import Scripted

ASKED = [{"role": "user", "content": "Say ready."}]


def refusal(param: str, message: str, code: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return 400, {}, {"error": error}


def particular(body: dict[str, Any]) -> Any:
    """As OpenAI's newer models answer."""
    if "max_tokens" in body:
        words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        words += "'max_completion_tokens' instead."
        return refusal("max_tokens", words, "unsupported_parameter")
    if body.get("temperature", 1) != 1:
        words = "Unsupported value: 'temperature' does not support 0 with this model. Only the "
        words += "default (1) value is supported."
        return refusal("temperature", words, "unsupported_value")
    return "ready"


def client(stub: Scripted, **kwargs: Any) -> chat.Chat:
    return chat.Chat(stub.url, "m", private=[stub.place], **kwargs)


def asks(stub: Scripted, times: int = 1, **kwargs: Any) -> tuple[list[str], Manners]:
    async def run() -> tuple[list[str], Manners]:
        async with client(stub, **kwargs) as one:
            said = await asyncio.gather(*(one.ask(ASKED, max_tokens=9) for _ in range(times)))  # type: ignore[arg-type]
            again = await one.ask(ASKED, max_tokens=9)  # type: ignore[arg-type]
            return [reply.text for reply in (*said, again)], one.manners

    return asyncio.run(run())


def test_a_refusal_teaches_the_client_once_and_the_question_is_answered() -> None:
    with Scripted(particular) as stub:
        said, manners = asks(stub)
        assert said == ["ready", "ready"]
        told = [("max_tokens" in b, "max_completion_tokens" in b, b.get("temperature")) for b in
                stub.bodies]  # fmt: skip
        assert told == [
            (True, False, 0.0), (False, True, 0.0), (False, True, None), (False, True, None),
        ]  # fmt: skip
        assert stub.bodies[-1]["max_completion_tokens"] == 9
    assert manners.told() == {
        "manners": {"limit": "max_completion_tokens", "own_temperature": True}
    }


def test_what_is_known_beforehand_is_not_refused_first() -> None:
    with Scripted(particular) as stub:
        said, manners = asks(stub, manners=Manners("max_completion_tokens", True))
        assert said == ["ready", "ready"]
        assert len(stub.bodies) == 2
    assert manners.told() == {}


def test_many_at_once_are_all_answered() -> None:
    with Scripted(particular) as stub:
        said, _ = asks(stub, times=8)
        assert said == ["ready"] * 9
        assert len(stub.bodies) <= 3 * 8 + 1


def test_an_older_endpoint_that_knows_only_max_tokens_is_met_too() -> None:
    def older(body: dict[str, Any]) -> Any:
        if "max_completion_tokens" in body:
            words = "Unrecognized request argument supplied: max_completion_tokens"
            return 400, {}, {"error": {"message": words, "param": None}}
        return "ready"

    with Scripted(older) as stub:
        said, manners = asks(stub, manners=Manners("max_completion_tokens"))
        assert said == ["ready", "ready"]
    assert manners.limit == "max_tokens"


def test_an_endpoint_that_refuses_either_name_is_asked_twice_and_no_more() -> None:
    def neither(body: dict[str, Any]) -> Any:
        name = next(one for one in body if one.startswith("max_"))
        return refusal(name, f"'{name}' is not supported with this model.", "unsupported_parameter")

    with Scripted(neither) as stub, pytest.raises(chat.Refused, match="is not supported"):
        asks(stub)
    assert [sorted(body)[0] for body in stub.bodies] == ["max_tokens", "max_completion_tokens"]


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 9 is more than this model's context of 8.",
        "'messages' is not supported with an empty list.",
    ],
)
def test_other_refusals_stay_refusals(words: str) -> None:
    with Scripted(lambda _: (400, {}, {"error": {"message": words}})) as stub:
        with pytest.raises(chat.Refused):
            asks(stub)
        assert len(stub.bodies) == 1
