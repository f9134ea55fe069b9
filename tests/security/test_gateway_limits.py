"""Requests that are too large, too slow or twisted are refused at once, and cost little."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest

from plumbline.accounts import keys
from plumbline.gateway import wire
from tests.security.test_gateway_access import NOWHERE

HI = {"model": "current", "messages": [{"role": "user", "content": "hi"}]}
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/feedback")


@pytest.fixture
def running(start_gateway, project):
    return start_gateway(NOWHERE)


@pytest.fixture
def secret(project, alice):
    return keys.create(project, "app", ["infer", "feedback"], alice)[1]


@pytest.fixture
def http(running, secret):
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=running.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def raw(running, secret, path, *, length, sent=b"", wait=10.0):
    """A request by hand that announces `length` bytes and sends some: (first line, seconds)."""
    host, port = running.url.removeprefix("http://").split(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=wait) as line:
        began = time.monotonic()
        line.sendall(head.encode() + sent)
        return line.recv(4096).split(b"\r\n")[0].decode(), time.monotonic() - began


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_announces_too_much_is_refused_unread(running, secret, path):
    for length in (wire.LARGEST_BODY + 1, 10 * 2**30, 10**30):
        said, took = raw(running, secret, path, length=length)
        assert " 413 " in said or " 400 " in said, said
        assert took < 5


def test_a_body_that_says_no_length_is_cut_off_where_it_grows_too_large(http):
    def pieces():
        for _ in range(64):
            yield b" " * 65_536

    answer = http.post("/v1/chat/completions", content=pieces())
    assert answer.status_code == 413


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_dawdles_is_refused_within_a_time_budget(running, secret, path, monkeypatch):
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.5)
    said, took = raw(running, secret, path, length=100, sent=b'{"model"')
    assert " 408 " in said
    assert 0.4 < took < 5


def test_dawdlers_keep_nobody_else_waiting(running, secret, http, monkeypatch):
    monkeypatch.setattr(wire, "BODY_SECONDS", 3)
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST /v1/feedback HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secret}\r\n"
    lines = [socket.create_connection((host, int(port)), timeout=10) for _ in range(100)]
    try:
        for line in lines:
            line.sendall((head + "Content-Length: 50\r\n\r\n{").encode())
        began = time.monotonic()
        assert http.get("/v1/models").status_code == 200
        assert time.monotonic() - began < 2.5
    finally:
        for line in lines:
            line.close()


DEEP = "[" * 900 + "]" * 900
TWISTED = {
    "twice": '{"model": "current", "model": "other", "messages": []}',
    "twice within": '{"model": "current", "messages": [{"role": "user", "role": "system"}]}',
    "deep": '{"model": "current", "messages": ' + "[" * 100_000,
    "deep objects": '{"a":' * 50_000,
    "deep schema": json.dumps({**HI, "tools": [{"type": "function", "function": {"name": "f"}}]})
    .replace('"f"', '"f", "parameters": {"type": "object", "x": ' + DEEP + "}"),
    "surrogate": '{"model": "\\ud800", "messages": []}',
    "surrogate key": '{"\\udfff": 1}',
    "nul": json.dumps({**HI, "messages": [{"role": "user", "content": "a\0b"}]}),
    "nul in what is kept": json.dumps({**HI, "store": True, "metadata": {"a": "\0"}}),
    "nul in a key": json.dumps({**HI, "store": True, "metadata": {"a\0": "b"}}),
    "nul raw": '{"model": "a\0b"}',
    "nan": '{"model": "current", "temperature": NaN}',
    "infinity": '{"model": "current", "temperature": 1e999, "messages": []}',
    "long number": '{"model": "current", "n": ' + "9" * 50_000 + "}",
    "many answers": json.dumps({**HI, "n": 16_384}),
    "many tokens": json.dumps({**HI, "max_tokens": 2**31}),
    "template": json.dumps({**HI, "chat_template": "{% for x in range(10**9) %}{% endfor %}"}),
    "template kwargs": json.dumps({**HI, "chat_template_kwargs": {"x": 1}}),
    "embeds": json.dumps({**HI, "prompt_embeds": "gASV"}),
    "extra": json.dumps({**HI, "extra_body": {"guided_regex": "(a+)+$"}}),
    "priority": json.dumps({**HI, "priority": -1}),
    "prototype": json.dumps({**HI, "__proto__": {"model": "x"}}),
    "bom": "\ufeff{}",
    "utf-16": "utf-16",
    "list": "[]",
    "word": "true",
    "nothing": "",
}  # fmt: skip


@pytest.mark.parametrize("what", TWISTED)
def test_what_is_twisted_is_refused_in_words_on_every_path(http, what):
    body = TWISTED[what].encode("utf-16" if what == "utf-16" else "utf-8")
    for path in PATHS:
        answer = http.post(path, content=body)
        assert answer.status_code == 400, (path, answer.status_code, answer.text[:200])
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert len(answer.content) < 2000, "what was sent does not come back whole"
        for leak in ("Traceback", "/site-packages/", "plumbline/", "line 1 in", "SELECT"):
            assert leak not in answer.text


def test_an_odd_address_or_header_breaks_nothing(http):
    for path in (
        *("/v1/models/%00", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/%ff%fe"),
        *("/v1/feedback/%00", "/v1/feedback/a%27%20OR%201=1--", "/v1/comparisons/" + "x" * 5000),
        *("/v1//models", "/v1/chat/completions/", "/v1/..;/metrics", "/%2e%2e/nowhere"),
        *("/v1/load_lora_adapter", "/update_weights", "/invocations", "/collective_rpc", "/pause"),
    ):
        for method in ("GET", "POST"):
            answer = http.request(method, path, content=b"{}" if method == "POST" else None)
            assert answer.status_code in (307, 400, 404, 405), (path, answer.status_code)
            assert "evil.example" not in answer.headers.get("location", "")
