"""An endpoint that is busy, broken or hostile: bounded retries, bounded memory, a bounded bill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from align.chat import Chat, EndpointAway, OverBudget, Refused, Reply
from tests.scripted import Scripted

ASK = [{"role": "user", "content": "Which is better?"}]


class Raw(str):
    """A body that is sent as it is, JSON or not."""


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from tests import scripted

    plain = json.dumps

    def dumps(data: Any, **more: Any) -> str:
        return str(data) if isinstance(data, Raw) else plain(data, **more)

    monkeypatch.setattr(scripted.json, "dumps", dumps)


def asking(stub: Scripted, times: int = 1, **settings: Any) -> list[Reply | BaseException]:
    """Ask so often at once; replies, or what was raised."""

    async def work() -> list[Reply | BaseException]:
        async with Chat(stub.url, "judge", private=[stub.place], **settings) as chat:
            asked = (chat.ask(ASK, max_tokens=8) for _ in range(times))
            return list(await asyncio.gather(*asked, return_exceptions=True))

    return asyncio.run(work())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_storm_ends_when_patience_does(status: int) -> None:
    """Ten questions into an endpoint that refuses each: the time is bounded, and so are the tries,
    because pauses double."""
    with Scripted(lambda body: (status, {}, {"error": {"message": "overloaded"}})) as stub:
        before = time.monotonic()
        found = asking(stub, 10, patience=1.0, concurrency=10)
        assert time.monotonic() - before < 20
        assert {type(one) for one in found} == {EndpointAway}
        assert f"status {status}, overloaded" in str(found[0])
        assert len(stub.bodies) <= 10 * 4, "0.2, 0.4 and 0.8 seconds do not fit into one"


def test_an_endpoint_that_asks_for_an_hour_is_not_waited_for() -> None:
    with Scripted(lambda body: (429, {"retry-after": "3600"}, {})) as stub:
        before = time.monotonic()
        (found,) = asking(stub, patience=5.0)
        assert time.monotonic() - before < 5
        assert isinstance(found, EndpointAway)
        assert len(stub.bodies) == 1


def test_a_storm_that_passes_is_waited_for() -> None:
    left = iter([429] * 12)

    def answer(body: dict[str, Any]) -> Any:
        status = next(left, None)
        return (status, {"retry-after": "0"}, {}) if status else "A"

    with Scripted(answer) as stub:
        found = asking(stub, 8, patience=30.0, concurrency=4)
        assert [one.text for one in found if isinstance(one, Reply)] == ["A"] * 8
        assert len(stub.bodies) == 20


GARBAGE = {
    "no JSON": "<html>504 Gateway Time-out</html>",
    "cut short": '{"choices": [{"message": {"content": "A',
    "nothing": "",
    "another shape": '{"choices": "A"}',
    "no choices": '{"choices": []}',
    "a number": "17",
    "null": "null",
    "deep": "[" * 100_000,
    "counts that are none": '{"choices": [{"message": {"content": "A"}}], '
    '"usage": {"prompt_tokens": 1e999}}',
}


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_asked_for_again_for_a_bounded_time(kind: str) -> None:
    with Scripted(lambda body: (200, {}, Raw(GARBAGE[kind]))) as stub:
        (found,) = asking(stub, patience=0.5)
        assert isinstance(found, EndpointAway), found
        assert "a reply that is not a chat completion" in str(found)
        assert 2 <= len(stub.bodies) <= 3


@pytest.mark.usefixtures("raw")
def test_a_huge_body_is_refused_before_it_is_held() -> None:
    with Scripted(lambda body: (200, {}, Raw("x" * (20 << 20)))) as stub:
        (found,) = asking(stub)
        assert isinstance(found, Refused)
        assert "larger than 8 MiB" in str(found)
        assert len(stub.bodies) == 1, "nothing is gained by asking again"


def reply(**usage: int) -> Callable[[dict[str, Any]], Any]:
    said = {"choices": [{"message": {"content": "A"}}], "usage": usage}
    return lambda body: (200, {}, said)


def test_the_cap_holds_in_a_storm_of_questions() -> None:
    with Scripted(reply(prompt_tokens=100, completion_tokens=0)) as stub:
        found = asking(stub, 50, budget_tokens=1000, concurrency=4)
        over = [one for one in found if isinstance(one, OverBudget)]
        assert len(stub.bodies) == 50 - len(over)
        # Those that were out when the cap was met still count, and are paid for.
        assert 10 <= len(stub.bodies) <= 13


def test_an_endpoint_that_counts_backwards_does_not_lift_the_cap() -> None:
    with Scripted(reply(prompt_tokens=-(10**9), completion_tokens=100)) as stub:
        asking(stub, 50, budget_tokens=1000, concurrency=1)
        assert len(stub.bodies) == 10
