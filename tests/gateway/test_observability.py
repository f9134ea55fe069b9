"""Metrics, readiness, ids and log lines: true, and without a word of what was said."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from io import StringIO
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from plumbline.accounts import keys
from plumbline.accounts.models import Project
from plumbline.gateway import ids, readiness
from plumbline.gateway.models import Exchange
from plumbline.logs import JsonFormatter
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Loan
from tests.faulty_engine import FaultyEngine
from tests.fleet.house import Redis, redis  # noqa: F401  # a fixture
from tests.ports import free_port

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
pytestmark = pytest.mark.sqlite
BODY = {"model": "current", "messages": ASK, "max_tokens": 20, "temperature": 0}
FORWARDED = {"x-forwarded-for": "203.0.113.7"}


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """The gateway's log as `LOG_FORMAT=json` writes it."""
    out, log = StringIO(), logging.getLogger("plumbline.requests")
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield out
    log.removeHandler(handler)
    log.setLevel(before)


def samples(reply: httpx.Response) -> dict[tuple[str, ...], float]:
    """(name, label values but the project's) -> value; buckets left out."""
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        (one.name, *(value for name, value in sorted(one.labels.items()) if name != "project")): (
            one.value
        )
        for family in text_string_to_metric_families(reply.text)
        for one in family.samples
        if not one.name.endswith("_bucket")
    }


def test_metrics_count_what_was_served(http: httpx.Client, current: Any) -> None:
    whole = http.post("/v1/chat/completions", json=BODY).json()
    streamed = http.post("/v1/chat/completions", json=BODY | {"stream": True})
    assert streamed.text.endswith("[DONE]\n\n")
    assert http.post("/v1/chat/completions", json={}).status_code == 400
    found = samples(http.get("/metrics"))
    assert found["plumbline_requests_total", "alpha-base", "200"] == 2
    usage = whole["usage"]
    assert found["plumbline_tokens_total", "prompt", "alpha-base"] == 2 * usage["prompt_tokens"]
    written = found["plumbline_tokens_total", "completion", "alpha-base"]
    assert written == 2 * usage["completion_tokens"]
    assert found["plumbline_request_seconds_count", "alpha-base"] == 2
    assert found["plumbline_time_to_first_token_seconds_count", "alpha-base"] == 1
    first = found["plumbline_time_to_first_token_seconds_sum", "alpha-base"]
    assert 0 < first < found["plumbline_request_seconds_sum", "alpha-base"]
    assert found["plumbline_refused_total", "400"] == 1
    assert found["plumbline_open_streams",] == 0
    assert found["plumbline_gate_waiting",] == 0
    assert found["plumbline_engine_up",] == 1


def test_an_open_stream_is_counted_while_it_is_open(
    http: httpx.Client, sdk: Any, current: Any, promote: Any, make_adapter: Any
) -> None:
    promote(make_adapter(4, scale=0.5))  # it babbles on
    time.sleep(0.15)
    stream = sdk.chat.completions.create(model="current", messages=ASK, max_tokens=450, stream=True)
    next(stream)
    assert samples(http.get("/metrics"))["plumbline_open_streams",] == 1
    stream.close()
    deadline = time.monotonic() + 10
    while samples(http.get("/metrics"))["plumbline_open_streams",]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_metrics_are_for_this_machine_or_a_key_that_manages(
    http: httpx.Client, gateway: Any, current: Any, project: Any, alice: Any
) -> None:
    http.post("/v1/chat/completions", json=BODY)
    ask = {"base_url": gateway.url, "trust_env": False}
    with httpx.Client(headers=FORWARDED, **ask) as stranger:
        assert stranger.get("/metrics").status_code == 401
    assert http.get("/metrics", headers=FORWARDED).status_code == 403
    _, manager = keys.create(project, "ops", ["manage"], alice)
    other = Project.objects.create(name="Other", slug="other")
    _, foreign = keys.create(other, "ops", ["manage"], alice)
    found = []
    for secret in (manager, foreign):
        headers = FORWARDED | {"authorization": f"Bearer {secret}"}
        with httpx.Client(headers=headers, **ask) as far:
            found.append(samples(far.get("/metrics")))
    assert found[0]["plumbline_requests_total", "alpha-base", "200"] == 1
    assert ("plumbline_open_streams",) not in found[0]  # everybody's
    assert found[1] == {}


def test_a_completion_is_one_line_without_what_was_said(
    http: httpx.Client, current: Any, secret: str, lines: StringIO
) -> None:
    reply = http.post("/v1/chat/completions", json=BODY, headers={"x-request-id": "job-7/3"})
    assert reply.headers["x-client-request-id"] == "job-7/3"
    (line,) = lines.getvalue().splitlines()
    said = json.loads(line)
    usage = reply.json()["usage"]
    assert said["request_id"] == reply.headers["x-request-id"]
    assert (said["client_request_id"], said["policy"], said["status"]) == (
        "job-7/3",
        "alpha-base",
        200,
    )
    assert said["key"] == secret.rpartition("_")[0][:16]
    assert said["completion_tokens"] == usage["completion_tokens"]
    assert "France" not in line
    assert "Paris" not in line
    assert secret not in line


def test_a_request_has_one_id_from_client_to_engine_and_journal(
    start_gateway: Any, engine: Any, secret: str, current: Any
) -> None:
    relay = FaultyEngine(engine.port)
    headers = {"authorization": f"Bearer {secret}", "x-client-request-id": "mine-1"}
    try:
        reply = httpx.post(
            start_gateway(relay.url).url + "/v1/chat/completions",
            json=BODY,
            headers=headers,
            trust_env=False,
            timeout=60,
        )
    finally:
        relay.close()
    id = reply.headers["x-request-id"].removeprefix("req_")
    assert relay.ids == [id]
    name = reply.json()["id"]
    assert name.startswith("chatcmpl-")
    assert ids.request(name) == id
    deadline = time.monotonic() + 10
    while not Exchange.objects.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    exchange = Exchange.objects.get()
    assert (exchange.completion_id, exchange.client_request_id) == (name, "mine-1")


@pytest.mark.parametrize("wild", ["a b", "x" * 129, "<b>", "é"])
def test_a_client_id_that_is_not_sane_is_not_echoed(
    http: httpx.Client, current: Any, wild: str
) -> None:
    given = {"x-client-request-id": wild.encode()}
    reply = http.get("/v1/models", headers=given)
    assert reply.status_code == 200
    assert "x-client-request-id" not in reply.headers


def test_ready_when_everything_answers(
    http: httpx.Client,
    current: Any,
    redis: Redis,  # noqa: F811
) -> None:
    reply = http.get("/ready")
    states = {"status": "ready", "database": "up", "redis": "up", "engine": "up"}
    assert (reply.status_code, reply.json()) == (200, states)


def test_ready_without_redis_but_it_says_what_that_means(http: httpx.Client, current: Any) -> None:
    reply = http.get("/ready")
    said = {"status": "ready; keys' limits do not hold", "redis": "away"}
    assert (reply.status_code, reply.json()) == (200, {**said, "database": "up", "engine": "up"})


def test_not_ready_without_redis_or_an_engine_and_alive_all_the_same(
    start_gateway: Any, project: Any
) -> None:
    Deployment.objects.create(project=project, policy=serving.base_policy(project))
    url = start_gateway(f"http://127.0.0.1:{free_port()}").url
    reply = httpx.get(url + "/ready", trust_env=False, timeout=30)
    assert reply.status_code == 503
    assert reply.json() == {
        "status": "not ready: redis, engine",
        "database": "up",
        "redis": "away",
        "engine": "away",
    }
    alive = httpx.get(url + "/health", trust_env=False)
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})


def test_an_engine_that_answers_its_health_check_but_gives_no_token_is_not_ready(
    start_gateway: Any, engine: Any, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.5)
    hung = FaultyEngine(engine.port)
    hung.pause = 60.0
    try:
        reply = httpx.get(start_gateway(hung.url).url + "/ready", trust_env=False, timeout=30)
        assert (reply.status_code, reply.json()["engine"]) == (503, "away")
    finally:
        hung.close()


def test_a_token_given_to_a_client_says_that_the_engine_is_up(
    start_gateway: Any,
    engine: Any,
    secret: str,
    current: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.5)
    settings.READY_SECONDS = 2
    relay = FaultyEngine(engine.port)
    url = start_gateway(relay.url).url
    headers = {"authorization": f"Bearer {secret}"}
    try:
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
            assert client.post("/v1/chat/completions", json=BODY).status_code == 200
            relay.pause = 60.0
            assert client.get("/ready").json()["engine"] == "up"
            time.sleep(2.1)
            assert client.get("/ready").json()["engine"] == "away"
    finally:
        relay.close()


def test_an_engine_that_has_failed_a_client_is_asked_anew_whether_it_is_up(
    start_gateway: Any, engine: Any, secret: str, current: Any
) -> None:
    relay = FaultyEngine(engine.port)
    headers = {"authorization": f"Bearer {secret}"}
    url = start_gateway(relay.url).url
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        relay.close()
        assert client.get("/ready").json()["engine"] == "up", "as far as anybody knows"
        assert client.post("/v1/chat/completions", json=BODY).status_code == 503
        assert client.get("/ready").json()["engine"] == "away"


def test_a_lent_engine_comes_back_by_itself_so_it_is_ready(
    http: httpx.Client,
    current: Any,
    redis: Redis,  # noqa: F811
) -> None:
    Loan.objects.create(job=uuid.uuid4(), epoch=1)
    time.sleep(serving.SEEN_SECONDS)
    reply = http.get("/ready")
    assert (reply.status_code, reply.json()["engine"]) == (200, "lent")
    assert samples(http.get("/metrics"))["plumbline_engine_up",] == 0
