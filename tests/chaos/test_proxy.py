"""The relay passes everything on untouched, and each toxic does to it what its name says."""

from __future__ import annotations

import socket
import socketserver
import threading
import time

import pytest

from tests.chaos.proxy import KINDS, Proxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)
        except OSError:
            return


@pytest.fixture
def proxy():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    relay = Proxy(server.server_address[1], seed=1)
    yield relay
    relay.close()
    server.shutdown()
    server.server_close()


def call(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(caller: socket.socket, said: bytes) -> bytes:
    """What comes back of what was said, up to the end of the connection."""
    caller.sendall(said)
    got = b""
    while len(got) < len(said) and (more := caller.recv(1 << 16)):
        got += more
    return got


def took(caller: socket.socket, said: bytes) -> float:
    begun = time.monotonic()
    assert ask(caller, said) == said
    return time.monotonic() - begun


def test_without_a_toxic_everything_passes_both_ways(proxy):
    said = bytes(range(256)) * 2000
    with call(proxy) as caller:
        assert ask(caller, said) == said
        assert proxy.connections == 1


def test_latency_delays_without_narrowing(proxy):
    with call(proxy) as caller, proxy.poisoned("latency", seconds=0.3) as toxic:
        assert 0.3 <= took(caller, b"x" * 500_000) < 3
        assert toxic.struck
    with call(proxy) as caller:
        assert took(caller, b"x") < 0.25


def test_bandwidth_narrows(proxy):
    with call(proxy) as caller, proxy.poisoned("bandwidth", rate=100_000):
        assert took(caller, b"x" * 50_000) >= 0.45


def test_a_slicer_cuts_into_pieces_and_loses_nothing(proxy):
    with call(proxy) as caller, proxy.poisoned("slicer", size=10, variation=5, pause=0.001):
        said = bytes(range(200))
        caller.sendall(said)
        first = caller.recv(1 << 16)
        assert len(first) < 200
        rest = b""
        while len(first + rest) < 200:
            rest += caller.recv(1 << 16)
        assert first + rest == said


def test_limited_data_ends_the_connection_at_the_byte(proxy):
    with call(proxy) as caller, proxy.poisoned("limit_data", bytes=7) as toxic:
        assert ask(caller, b"0123456789") == b"0123456"
        assert toxic.struck == 1


def test_an_answer_can_be_lost_whole(proxy):
    with call(proxy) as caller:
        assert ask(caller, b"before") == b"before"
        with proxy.poisoned("limit_data", bytes=0):
            assert ends(caller)


def ends(caller: socket.socket) -> bool:
    """Whether the caller gets nothing more, by a close or by a reset."""
    try:
        return ask(caller, b"lost") == b""
    except ConnectionError:
        return True


def test_a_blackhole_holds_everything_until_it_is_taken_away(proxy):
    with call(proxy) as caller:
        with proxy.poisoned("timeout", seconds=0) as toxic:
            caller.sendall(b"held")
            caller.settimeout(0.3)
            with pytest.raises(TimeoutError):
                caller.recv(10)
            assert toxic.struck == 1
        caller.settimeout(5)
        assert caller.recv(10) == b"held"


def test_a_timeout_ends_the_connection(proxy):
    with call(proxy) as caller, proxy.poisoned("timeout", seconds=0.2):
        assert ends(caller)


def test_a_reset_is_no_close(proxy):
    with call(proxy) as caller:
        assert ask(caller, b"open") == b"open"
        with proxy.poisoned("reset_peer", seconds=0) as toxic:
            with pytest.raises(ConnectionResetError):
                caller.recv(1)
            assert toxic.struck == 1


def test_a_close_can_come_late(proxy):
    with call(proxy) as caller, proxy.poisoned("slow_close", seconds=0.3):
        caller.shutdown(socket.SHUT_WR)
        begun = time.monotonic()
        assert caller.recv(1) == b""
        assert time.monotonic() - begun >= 0.3


def test_a_proxy_that_is_down_takes_nobody_and_comes_up_on_the_same_port(proxy):
    with call(proxy) as caller, proxy.poisoned("down"):
        assert ends(caller)
        with pytest.raises(ConnectionError):
            call(proxy)
    with call(proxy) as caller:
        assert ask(caller, b"up") == b"up"


def test_a_toxic_on_the_way_up_keeps_requests_from_the_server(proxy):
    with call(proxy) as caller, proxy.poisoned("limit_data", "up", bytes=3):
        assert ask(caller, b"0123456789") in (b"", b"012")


def test_there_are_eight_and_others_are_refused(proxy):
    assert len(KINDS) == 8
    with pytest.raises(ValueError, match="no toxic noise"):
        proxy.add("noise")
    with pytest.raises(ValueError, match="no toxic latency"):
        proxy.add("latency", bytes=3)
