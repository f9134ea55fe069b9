"""No way of writing an address, no resolver and no answer leads a worker into its own network."""

from __future__ import annotations

import asyncio
import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from align import chat
from align.addresses import Forbidden, Guarded
from plumbline.judges import endpoints
from tests.security import encodings

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "[2606:4700:4700::1111]", "134744072", "0x8080808"]


@pytest.fixture(autouse=True)
def _numbers_only(monkeypatch):
    """The C library reads every spelling of a number; names are asked of no network here."""
    resolve = socket.getaddrinfo

    def numeric(host, port, family=0, type=0, proto=0, flags=0):
        named = host in ("localhost", "localhost.")
        return resolve(host, port, family, type, proto, flags | (0 if named else _NUMERIC))

    monkeypatch.setattr(socket, "getaddrinfo", numeric)


_NUMERIC = socket.AI_NUMERICHOST


class Recorded(Guarded):
    """Where it would have connected to."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[str] = []
        self._inner.handle_async_request = self._note  # type: ignore[method-assign]

    async def _note(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        return httpx.Response(204)


def each(
    items: list[str], do: Callable[[httpx.AsyncClient, str], Awaitable[Any]]
) -> tuple[list[str], list[str]]:
    """Addresses connected to, and what became of each item."""

    async def run() -> tuple[list[str], list[str]]:
        transport = Recorded()
        ends = []
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            for item in items:
                try:
                    await do(client, item)
                    ends.append("answered")
                except (Forbidden, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                    ends.append(type(error).__name__)
        return transport.asked, ends

    return asyncio.run(run())


def test_no_spelling_of_a_private_address_is_asked():
    hosts = encodings.hosts()
    schemes = ("https", "http")
    items = [f"{scheme}://{host}/v1" for host in hosts for scheme in schemes]
    assert len(hosts) >= 500, len(hosts)
    asked, ends = each(items, lambda client, url: client.post(url))
    wrong = {item: end for item, end in zip(items, ends, strict=True) if end == "answered"}
    assert not wrong
    assert not asked
    assert ends.count("Forbidden") >= 500, "most of them do lead somewhere on this machine"


def test_public_addresses_are_asked():
    items = [f"https://{host}/v1" for host in PUBLIC]
    asked, ends = each(items, lambda client, url: client.post(url))
    assert ends == ["answered"] * len(PUBLIC)
    assert all(ipaddress.ip_address(one).is_global for one in asked)


def test_public_addresses_are_not_asked_in_the_clear():
    """Key and texts would be anybody's to read on the way."""
    asked, ends = each([f"http://{one}/v1" for one in PUBLIC], lambda client, url: client.post(url))
    assert (asked, set(ends)) == ([], {"Forbidden"})


def test_no_url_that_means_two_hosts_is_kept_or_asked():
    """What the form would keep is asked; what it refuses never comes to a worker. A host that is
    public may be asked, so those must be what the string shows first."""

    async def keep_and_ask(client: httpx.AsyncClient, url: str) -> None:
        await client.post(endpoints.address(url))

    items = encodings.urls()
    asked, ends = each(items, keep_and_ask)
    assert len(items) >= 200
    assert asked == []
    assert "answered" not in ends
    assert ends.count("ValueError") >= 150


def answers(*turns: list[str]) -> Callable[..., list[Any]]:
    """A resolver that gives each question the next of these answers."""
    left = list(turns)

    def resolve(host, port, family=0, type=0, proto=0, flags=0):
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    return resolve


def test_a_name_that_moves_after_the_check_is_asked_where_it_was_checked(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answers(["93.184.216.34"], ["127.0.0.1"]))
    asked, ends = each(["https://rebind.example/v1"], lambda client, url: client.post(url))
    assert (asked, ends) == (["93.184.216.34"], ["answered"])


def test_a_name_that_moved_between_two_requests_is_checked_again(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answers(["93.184.216.34"], ["169.254.169.254"]))
    asked, ends = each(["https://rebind.example/v1"] * 2, lambda client, url: client.post(url))
    assert (asked, ends) == (["93.184.216.34"], ["answered", "Forbidden"])


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answers(["93.184.216.34", "10.0.0.1"]))
    asked, ends = each(["https://both.example/v1"], lambda client, url: client.post(url))
    assert (asked, ends) == ([], ["Forbidden"])


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers as the test wants: a redirect, an endless body, a drip."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        self.rfile.read(int(self.headers["content-length"]))
        self.server.act(self)

    do_GET = do_CONNECT = do_POST  # noqa: N815

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    server.seen, server.stop = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()


def ask(server: Any, **more: Any) -> chat.Reply:
    private = {server.url.split("/")[2]}

    async def once() -> chat.Reply:
        client = chat.Chat(server.url, "m", "sk-secret", private=private, patience=0.5, **more)
        async with client:
            return await client.ask([{"role": "user", "content": "Hello"}])

    return asyncio.run(once())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/latest/meta-data/", "/elsewhere", "//[::1]/"]
)
def test_no_redirect_is_followed(endpoint, status, to):
    def redirect(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("location", to)
        handler.send_header("content-length", "0")
        handler.end_headers()

    endpoint.act = redirect
    with pytest.raises(chat.Refused, match="none is followed"):
        ask(endpoint)
    assert [path for path, _ in endpoint.seen] == ["/v1/chat/completions"]


def test_proxies_of_the_environment_are_not_used(endpoint, monkeypatch):
    """Neither by the guarded client nor by the one for our own engine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    body = b'{"choices": [{"message": {"content": "Hi"}}]}'

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    endpoint.act = answer
    assert ask(endpoint).text == ask(endpoint, own=True).text == "Hi"


def test_a_body_without_end_is_cut_off(endpoint):
    def pour(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(1 << 40))
        handler.end_headers()
        while not endpoint.stop.is_set():
            try:
                handler.wfile.write(b"x" * 65536)
            except OSError:
                return

    endpoint.act = pour
    with pytest.raises(chat.Refused, match="larger than 8 MiB"):
        ask(endpoint)


def test_a_drip_is_cut_off(endpoint, monkeypatch):
    """Each byte comes in time; the answer never does."""
    monkeypatch.setattr(chat, "ANSWER_TIME", 0.6)

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        while not endpoint.stop.wait(0.05):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return

    endpoint.act = drip
    began = time.monotonic()
    with pytest.raises(chat.EndpointAway, match="TimeoutError"):
        ask(endpoint)
    assert time.monotonic() - began < 6
