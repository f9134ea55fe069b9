"""Engines that are down, die, hang or garble: an error in OpenAI's shape, never half an answer."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from plumbline.gateway.models import Exchange
from plumbline.policies import serving
from plumbline.policies.models import Deployment

pytestmark = pytest.mark.sqlite

openai = pytest.importorskip("openai")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: "
CHUNK = {
    "id": "x",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "base",
    "choices": [{"index": 0, "delta": {"content": "The"}, "finish_reason": None}],
}


@pytest.fixture
def deployed(project: Any) -> Any:
    """An alias, set without asking any engine."""
    return Deployment.objects.create(project=project, policy=serving.base_policy(project)).policy


@pytest.fixture
def scripted(deployed: Any) -> Iterator[Callable[..., str]]:
    """`scripted(reply, pause)`: a server that answers every request with these bytes, waits, and
    hangs up: the ways of failing that a real engine does not show on demand."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def serve(reply: bytes, pause: float = 0.0) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += self.rfile.readline()
                self.wfile.write(reply)
                time.sleep(pause)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(start_gateway: Callable[[str], Any], deployed: Any, secret: str) -> Callable[[str], Any]:
    """`client(engine_url)`: the SDK before a gateway of that engine."""

    def connect(engine_url: str) -> Any:
        gateway = start_gateway(engine_url)
        return openai.OpenAI(base_url=gateway.url + "/v1", api_key=secret, max_retries=0)

    return connect


def ask(sdk: Any, **more: Any) -> Any:
    return sdk.chat.completions.create(model="current", messages=ASK, max_tokens=20, **more)


def events(*data: Any) -> bytes:
    body = b"".join(
        b"data: " + (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n\n"
        for one in data
    )
    return HEAD + b"text/event-stream\r\n\r\n" + body


def test_an_engine_that_is_down_is_503_with_a_time_to_come_back(client: Any) -> None:
    sdk = client("http://127.0.0.1:9")
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(sdk, stream=stream)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "2"
        assert caught.value.response.headers["x-policy-version"] == "alpha-base"
    assert [model.id for model in sdk.models.list()] == ["current", "alpha-base"]
    health = httpx.get(str(sdk.base_url.join("/health")), trust_env=False)
    assert (health.status_code, health.json()) == (200, {"status": "ok"})


def test_an_engine_killed_in_the_middle_of_a_stream_is_an_error_event(
    client: Any, own_engine: Any, project: Any, make_adapter: Callable[..., Any], settings: Any
) -> None:
    sdk = client(own_engine.url)
    babbler = make_adapter(8, scale=0.5)
    serving.ensure_loaded(babbler)
    stream = sdk.chat.completions.create(
        model=babbler.name, messages=ASK, max_tokens=450, stream=True
    )
    next(stream)
    own_engine.kill()
    with pytest.raises(openai.APIError, match="stopped in the middle"):
        list(stream)
    with pytest.raises(openai.InternalServerError, match="not available"):
        ask(sdk)
    own_engine.start()
    # Back, but it has forgotten the adapter, which is loaded again for whoever asks first.
    assert ask(sdk).model == "alpha-base"
    Deployment.objects.update(policy=babbler)
    time.sleep(0.2)
    settings.ENGINE_URL = own_engine.url
    assert ask(sdk).model == babbler.name
    assert serving.reconcile() == []


@pytest.mark.parametrize(
    "reply",
    [
        events(CHUNK),
        events(CHUNK, b"{half"),
        events(CHUNK, [1]),
        events(CHUNK, {"error": {"message": "out of memory"}}),
        events(CHUNK) + b'data: {"choices": [',
        events(),
    ],
    ids=["stops", "garbles", "not-an-object", "errs", "breaks-off", "says-nothing"],
)
def test_a_stream_without_an_end_is_an_error(client: Any, scripted: Any, reply: bytes) -> None:
    sdk = client(scripted(reply))
    with pytest.raises(openai.APIError):
        list(ask(sdk, stream=True))
    deadline = time.monotonic() + 5
    while not Exchange.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [exchange.status for exchange in Exchange.objects.all()] == [502]


def test_a_whole_stream_with_odd_line_ends_passes(client: Any, scripted: Any) -> None:
    odd = {**CHUNK, "choices": [{"index": 0, "delta": {"content": "a\u2028b"}}]}
    raw = json.dumps(odd, ensure_ascii=False).encode()
    reply = HEAD + b"text/event-stream\r\n\r\n: hello\r\ndata: " + raw + b"\r\n\r\ndata: [DONE]\r\n"
    chunks = list(ask(client(scripted(reply)), stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["a\u2028b"]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (HEAD + b"application/json\r\n\r\n{", 502),
        (HEAD + b"application/json\r\n\r\n[]", 502),
        (HEAD + b'application/json\r\n\r\n{"choices": 3}', 502),
        (HEAD + b"application/json\r\nContent-Length: 99\r\n\r\n{", 502),
        (b"", 503),
        (b"nonsense\r\n\r\n", 503),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 502),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 503),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    client: Any, scripted: Any, reply: bytes, status: int
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client(scripted(reply)))
    assert caught.value.status_code == status


def test_an_engine_that_hangs_is_given_up(client: Any, scripted: Any, settings: Any) -> None:
    settings.ENGINE_WAIT_SECONDS = 0.3
    sdk = client(scripted(b"", pause=3))
    with pytest.raises(openai.InternalServerError, match="did not answer in time"):
        ask(sdk)
    sdk = client(scripted(events(CHUNK), pause=3))
    with pytest.raises(openai.APIError, match="fell silent"):
        list(ask(sdk, stream=True))


def test_a_client_that_leaves_stops_the_generation(
    client: Any, engine: Any, make_adapter: Callable[..., Any]
) -> None:
    sdk = client(engine.url)
    babbler = make_adapter(9, scale=0.5)
    serving.ensure_loaded(babbler)
    more: Any = {"model": babbler.name, "messages": ASK, "max_tokens": 450}
    stream = sdk.chat.completions.create(stream=True, **more)
    next(stream)
    stream.close()
    with pytest.raises(openai.APITimeoutError):
        sdk.with_options(timeout=0.1).chat.completions.create(n=8, **more)
    deadline = time.monotonic() + 10
    while Exchange.objects.count() < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [exchange.status for exchange in Exchange.objects.all()] == [499, 499]
