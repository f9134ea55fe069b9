"""Limits of keys: never passed by requests together, settled by what was used, told in OpenAI's
words to OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey
from plumbline.gateway import limits
from plumbline.gateway.limits import Limited, Limiter, Limits, duration
from plumbline.gateway.models import Exchange, Usage
from plumbline.policies import serving
from tests.faulty_engine import FaultyEngine
from tests.fleet.house import Redis, redis  # noqa: F401  # a fixture

openai = pytest.importorskip("openai")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
BODY = {"model": "current", "messages": ASK, "max_tokens": 8}
DURATION = r"(\d+h)?(\d+m)?\d+s|\d+ms"


@pytest.fixture
def limit(secret: str, redis: Redis) -> Callable[..., None]:  # noqa: F811
    """`limit(requests_per_minute=5)`: what the key may, from now on; Redis remembers nothing."""

    def to(**changes: int) -> None:
        ApiKey.objects.filter(prefix=secret.split("_")[1]).update(**changes)
        redis.client().flushall()
        time.sleep(0.15)  # until the gateway looks again

    return to


def in_redis(redis: Redis, field: str) -> float:  # noqa: F811
    (name,) = redis.client().keys("plumbline:limits:*")
    return float(redis.client().hget(name, field))


def soon(said: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + 10
    while (now := said()) != wanted:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)


def test_thirty_requests_at_once_never_pass_a_limit_of_five(
    http: httpx.Client, current: Any, limit: Callable[..., None]
) -> None:
    limit(requests_per_minute=5)
    began = time.monotonic()
    with ThreadPoolExecutor(30) as clients:
        asked = [
            clients.submit(http.post, "/v1/chat/completions", json=BODY | {"max_tokens": 1})
            for _ in range(30)
        ]
        replies = [one.result() for one in asked]
    passed = [reply for reply in replies if reply.status_code == 200]
    refilled = int((time.monotonic() - began) / 12)  # one more every twelve seconds
    assert 5 <= len(passed) <= 5 + refilled
    assert {reply.status_code for reply in replies} == {200, 429}


def test_two_gateways_share_one_limit(
    start_gateway: Any, engine: Any, http: httpx.Client, current: Any, limit: Callable[..., None]
) -> None:
    other = start_gateway(engine.url).url
    limit(requests_per_minute=2)
    statuses = [
        http.post(url + "/v1/chat/completions", json=BODY).status_code
        for url in (str(http.base_url).rstrip("/"), other, other)
    ]
    assert statuses == [200, 200, 429]


def test_the_openai_client_raises_its_rate_limit_error(
    sdk: Any, current: Any, limit: Callable[..., None]
) -> None:
    limit(requests_per_minute=1)
    sdk.chat.completions.create(model="current", messages=ASK, max_tokens=1)
    with pytest.raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(model="current", messages=ASK, max_tokens=1)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    headers = caught.value.response.headers
    assert 55 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_tells_what_is_left(
    http: httpx.Client,
    current: Any,
    limit: Callable[..., None],
    redis: Redis,  # noqa: F811
    stream: bool,
) -> None:
    limit(requests_per_minute=600, tokens_per_minute=60_000)
    reply = http.post("/v1/chat/completions", json=BODY | {"stream": stream})
    told = {
        name.removeprefix("x-ratelimit-"): value
        for name, value in reply.headers.items()
        if name.startswith("x-ratelimit-")
    }
    resets = [told.pop("reset-requests"), told.pop("reset-tokens")]
    assert all(re.fullmatch(DURATION, reset) for reset in resets)
    assert told == {
        "limit-requests": "600",
        "remaining-requests": "599",
        "limit-tokens": "60000",
        "remaining-tokens": str(60_000 - (8 + 4) - 8),  # 30 letters and a message's frame; 8 more
    }


def test_what_was_not_used_comes_back_at_the_end(
    sdk: Any,
    current: Any,
    limit: Callable[..., None],
    redis: Redis,  # noqa: F811
) -> None:
    limit(tokens_per_day=100_000)
    for stream in (False, True):
        answer = sdk.chat.completions.create(
            model="current", messages=ASK, temperature=0, max_tokens=400, stream=stream
        )
        list(answer)
    soon(lambda: sum(row.requests for row in Usage.objects.all()), 2)
    tokens = sum(one.prompt_tokens + one.completion_tokens for one in Exchange.objects.all())
    assert 0 < tokens < 200
    soon(lambda: in_redis(redis, "in_day"), tokens)


def test_a_request_that_the_engine_failed_gives_back_its_tokens(
    start_gateway: Any,
    engine: Any,
    secret: str,
    current: Any,
    limit: Callable[..., None],
    redis: Redis,  # noqa: F811
) -> None:
    faulty = FaultyEngine(engine.port)
    try:
        limit(tokens_per_day=1000, tokens_per_minute=1000)
        faulty.break_off = 1
        client = openai.OpenAI(
            base_url=start_gateway(faulty.url).url + "/v1", api_key=secret, max_retries=0
        )
        with pytest.raises(openai.APIError, match="stopped in the middle"):
            list(
                client.chat.completions.create(
                    model="current", messages=ASK, max_tokens=100, stream=True
                )
            )
        soon(lambda: in_redis(redis, "in_day"), 0)
        soon(lambda: in_redis(redis, "tokens"), 1000)
    finally:
        faulty.close()


def test_a_used_up_budget_is_insufficient_quota_until_the_day_ends(
    sdk: Any, current: Any, limit: Callable[..., None]
) -> None:
    limit(tokens_per_day=40)
    sdk.chat.completions.create(model="current", messages=ASK, max_tokens=8)
    with pytest.raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(model="current", messages=ASK, max_tokens=28)
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    headers = caught.value.response.headers
    assert 0 < int(headers["retry-after"]) <= 86_400
    assert headers["x-should-retry"] == "false"
    assert headers["x-ratelimit-limit-tokens"] == "40"


def test_a_budget_outlives_the_redis_that_counted_it(
    http: httpx.Client,
    current: Any,
    limit: Callable[..., None],
    redis: Redis,  # noqa: F811
) -> None:
    limit(tokens_per_month=60)
    assert http.post("/v1/chat/completions", json=BODY).status_code == 200
    soon(Usage.objects.count, 1)
    redis.client().flushall()
    time.sleep(0.15)
    reply = http.post("/v1/chat/completions", json=BODY | {"max_tokens": 40})
    assert reply.json()["error"]["code"] == "insufficient_quota"


def test_a_request_larger_than_the_limit_is_not_asked_again(
    http: httpx.Client, current: Any, limit: Callable[..., None]
) -> None:
    limit(tokens_per_minute=50)
    reply = http.post("/v1/chat/completions", json=BODY | {"max_tokens": 100})
    assert reply.status_code == 429
    assert "retry-after" not in reply.headers
    assert reply.headers["x-should-retry"] == "false"
    assert "this request may use 112" in reply.json()["error"]["message"]


def test_without_redis_requests_pass_and_the_log_says_so_once(
    http: httpx.Client,
    current: Any,
    limit: Callable[..., None],
    redis: Redis,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "PAUSE", 0.2)
    limit(requests_per_minute=1)
    redis.kill()
    for _ in range(3):
        assert http.post("/v1/chat/completions", json=BODY).status_code == 200
        time.sleep(0.3)
    said = [one for one in caplog.records if one.name == "plumbline.gateway.limits"]
    assert [one.levelno for one in said] == [logging.ERROR]
    redis.start()
    assert http.post("/v1/chat/completions", json=BODY).status_code == 200
    assert http.post("/v1/chat/completions", json=BODY).status_code == 429


def test_the_settings_limit_keys_that_have_none_of_their_own(
    settings: Any, project: Any, alice: Any
) -> None:
    settings.KEY_REQUESTS_PER_MINUTE, settings.KEY_TOKENS_PER_DAY = 60, 5000
    key, _ = keys.create(project, "app", ["infer"], alice)
    today = datetime.now(UTC).date()
    assert limits.of(key) == Limits(key.pk, 60, 0, 5000, 0, seen=today)
    key.requests_per_minute, key.tokens_per_day = 0, 10
    assert limits.of(key) == Limits(key.pk, 0, 0, 10, 0, seen=today)


def test_nothing_is_taken_for_what_is_refused(redis: Redis) -> None:  # noqa: F811
    async def ask() -> list[bool]:
        limiter, one = Limiter(f"unix://{redis.socket}"), Limits(1, 0, 100)
        passed = []
        for cost in (60, 60, 60, 39):
            try:
                passed.append(await limiter.admit(one, cost, {}) is not None)
            except Limited:
                passed.append(False)
        await limiter.close()
        return passed

    assert asyncio.run(ask()) == [True, False, False, True]


@pytest.mark.parametrize(
    ("caps", "asked", "said"),
    [
        ({"most_choices": 2}, {"n": 3}, (400, "n", "too_many_choices")),
        ({"most_tokens": 5}, {"max_tokens": 6}, (400, "max_tokens", "max_tokens_too_large")),
        ({"longest_prompt": 10}, {}, (413, "messages", "prompt_too_long")),
    ],
)
def test_a_keys_own_cap_is_named_when_it_is_broken(
    http: httpx.Client,
    current: Any,
    limit: Callable[..., None],
    caps: dict[str, int],
    asked: dict[str, int],
    said: tuple[int, str, str],
) -> None:
    limit(**caps)
    reply = http.post("/v1/chat/completions", json=BODY | asked)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == said


def test_naming_no_length_is_no_way_around_the_cap(
    http: httpx.Client, current: Any, limit: Callable[..., None]
) -> None:
    limit(most_tokens=3)
    for path, asked in (("chat/completions", {"messages": ASK}), ("completions", {"prompt": "A"})):
        reply = http.post(f"/v1/{path}", json={"model": "current", "temperature": 0, **asked})
        assert reply.json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (0.0201, "21ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (3723, "1h2m3s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_month_ends_at_midnight_of_its_last_day() -> None:
    now = datetime(2026, 2, 27, 12, tzinfo=UTC)
    assert limits._left(limits.MONTH, now) == 1.5 * 86_400
    assert limits._left(limits.DAY, now) == 0.5 * 86_400


def test_what_was_spent_before_midnight_is_not_todays() -> None:
    seen = Limits(1, 0, 0, 100, 1000, spent_in_day=90, spent_in_month=900, seen=date(2026, 1, 30))
    assert seen.spent(date(2026, 1, 30)) == (90, 900)
    assert seen.spent(date(2026, 1, 31)) == (0, 900)
    assert seen.spent(date(2026, 2, 1)) == (0, 0)


def test_what_a_refusal_says_is_json_in_openais_shape(
    http: httpx.Client, current: Any, limit: Callable[..., None]
) -> None:
    limit(requests_per_minute=1)
    http.post("/v1/chat/completions", json=BODY)
    error = json.loads(http.post("/v1/chat/completions", json=BODY).text)["error"]
    assert error == {
        "message": "This key may make 1 requests a minute.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_a_projects_keys_share_its_limits(redis: Redis) -> None:  # noqa: F811
    """Taken from both or from neither, told by whom it is refused, and given back to both."""
    shared = Limits(7, 2, 0, 100, bucket=":project", who="This project", whose="This project's")
    one, other = Limits(1, 3, within=shared), Limits(2, 0, 50, within=shared)

    async def ask() -> None:
        limiter, headers = Limiter(f"unix://{redis.socket}"), dict[str, str]()
        first = await limiter.admit(one, 60, headers)
        assert headers["x-ratelimit-remaining-requests"] == "2", "the key's own, which is nearer"
        with pytest.raises(Limited, match="This key may use 50 tokens a minute"):
            await limiter.admit(other, 60, headers)
        with pytest.raises(Limited, match="This project's budget of 100 tokens a day") as caught:
            await limiter.admit(other, 45, headers)
        assert caught.value.limit == "day"
        assert headers["x-ratelimit-remaining-tokens"] == "40"
        limiter.settle(first, 20)
        await asyncio.gather(*limiter._settling)
        assert await limiter.admit(other, 45, headers) is not None, "40 came back"
        with pytest.raises(Limited, match="This project may make") as caught:
            await limiter.admit(one, 1, headers)
        assert caught.value.limit == "requests"
        assert headers["x-ratelimit-limit-requests"] == "2"
        await limiter.close()

    redis.client().flushall()
    asyncio.run(ask())
    held = redis.client().hgetall("plumbline:limits:1")
    assert (held[b"in_day"], float(held[b"requests"])) == (b"20", pytest.approx(2, abs=0.5))
    assert redis.client().hget("plumbline:limits:7:project", "in_day") == b"65"


def test_requests_at_once_of_several_keys_never_pass_their_projects_limit(
    redis: Redis,  # noqa: F811
) -> None:
    shared = Limits(7, 5, bucket=":project")

    async def ask() -> list[Any]:
        limiter = Limiter(f"unix://{redis.socket}")
        asked = [limiter.admit(Limits(n, 100, within=shared), 1, {}) for n in range(30)]
        told = await asyncio.gather(*asked, return_exceptions=True)
        await limiter.close()
        return told

    redis.client().flushall()
    told = asyncio.run(ask())
    assert sum(not isinstance(one, Limited) for one in told) == 5


def test_a_projects_limits_reach_its_keys_with_what_it_has_spent(project: Any, alice: Any) -> None:
    key, _ = keys.create(project, "app", ["infer"], alice)
    other, _ = keys.create(project, "site", ["infer"], alice)
    assert limits.of(key).within is None
    project.tokens_per_day, project.requests_per_minute = 1000, 0
    project.save()
    today, policy = datetime.now(UTC).date(), serving.base_policy(project)
    for asked_by, tokens in ((key, 30), (other, 12)):
        Usage.objects.create(
            project=project, api_key=asked_by, policy=policy, day=today, bucket=1,
            requests=1, errors=0, prompt_tokens=tokens, completion_tokens=0,
        )  # fmt: skip
    within = limits.of(ApiKey.objects.select_related("project").get(pk=key.pk)).within
    assert within is not None
    assert within.tokens_per_day == 1000
    assert within.spent(today) == (42, 0)
    assert limits.of_member(project.pk, alice.pk).within == within


def test_the_keys_of_a_project_are_refused_beyond_its_budget_over_http(
    http: httpx.Client, current: Any, project: Any, limit: Callable[..., None]
) -> None:
    type(project).objects.filter(pk=project.pk).update(requests_per_minute=1)
    limit(requests_per_minute=100)
    assert http.post("/v1/chat/completions", json=BODY).status_code == 200
    refused = http.post("/v1/chat/completions", json=BODY)
    assert refused.status_code == 429
    assert refused.json()["error"]["message"].startswith(
        "This project may make 1 requests a minute"
    )
