"""Feedback has a budget of requests beside that of completions, and each link one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey
from plumbline.gateway import limits
from plumbline.gateway.models import Feedback
from tests.fleet.house import Redis, redis  # noqa: F401  # a fixture
from tests.gateway.clients import named

KEPT = "x-ratelimit-remaining-requests"


@pytest.fixture
def api(
    redis: Redis,  # noqa: F811
    start_gateway: Callable[[str], Any],
    project: Any,
    alice: Any,
) -> Iterator[httpx.Client]:
    """With a key of three requests a minute, before an engine that is away: feedback needs none."""
    redis.client().flushall()
    _, secret = keys.create(project, "app", ["feedback", "infer"], alice)
    ApiKey.objects.update(requests_per_minute=3)
    url = start_gateway("http://127.0.0.1:9").url
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def thumb(project: Any) -> dict[str, Any]:
    return {"completion_id": named(project), "key": "thumbs", "score": 1}


def test_feedback_beyond_the_keys_requests_is_refused_and_not_taken(
    api: httpx.Client, project: Any
) -> None:
    replies = [api.post("/v1/feedback", json=thumb(project)) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [202, 202, 202, 429], replies[-1].headers
    assert [reply.headers[KEPT] for reply in replies] == ["2", "1", "0", "0"]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "3"
    error = replies[-1].json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "3 requests about feedback a minute" in error["message"]
    assert 0 < int(replies[-1].headers["retry-after"]) <= 20
    assert Feedback.objects.count() == 3
    for path in ("/v1/comparisons", "/v1/feedback/links", "/v1/end_users/forget"):
        assert api.post(path, json={}).status_code == 429
    assert api.get("/v1/feedback/x").status_code == 429
    said = api.get("/metrics").text
    assert f'plumbline_rate_limited_total{{limit="requests",project="{project.pk}"}} 5.0' in said


def test_feedback_takes_nothing_from_completions(api: httpx.Client, project: Any) -> None:
    for _ in range(3):
        api.post("/v1/feedback", json=thumb(project))
    body = {"model": "current", "prompt": "Hi"}
    assert api.post("/v1/completions", json=body).status_code != 429


def test_a_link_that_is_hammered_takes_nothing_from_its_key(
    api: httpx.Client,
    project: Any,
    redis: Redis,  # noqa: F811
) -> None:
    made = api.post("/v1/feedback/links", json={"completion_id": named(project)}).json()
    with httpx.Client(trust_env=False, timeout=30) as browser:
        replies = [
            browser.post(made["url"], json={"key": "thumbs", "score": n})
            for n in range(limits.LINK_PER_MINUTE + 1)
        ]
    assert [reply.status_code for reply in replies] == [202, *[409] * 9, 429]
    assert replies[-1].headers["access-control-allow-origin"] == "*"
    assert api.post("/v1/feedback", json=thumb(project)).headers[KEPT] == "1"
    assert all(0 < redis.client().ttl(one) <= 120 for one in redis.client().keys("plumbline:*"))
