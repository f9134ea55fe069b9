"""Which addresses are anybody's to ask, however they are written."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from align import addresses
from align.addresses import Forbidden, Guarded, public

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "ff02::1"),
    *("fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"),
    *("2002:7f00:1::", "2001::1", "2001:db8::1"),
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_and_reserved_ranges_are_not_public(address):
    assert not public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_rest_is(address):
    assert public(address)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "localhost", "[::1]", "127.1"])
def test_a_name_is_judged_by_where_it_leads(host):
    """However a URL spells it, what counts is what it resolves to."""

    async def ask() -> None:
        async with httpx.AsyncClient(transport=Guarded(), trust_env=False) as client:
            await client.get(f"http://{host}:9/v1")

    with pytest.raises((Forbidden, httpx.ConnectError)) as refused:
        asyncio.run(ask())
    if host in ("localhost", "[::1]"):
        assert "PLUMBLINE_PRIVATE_ENDPOINTS=" in str(refused.value)


def test_the_list_of_private_places_is_by_host_and_port():
    assert addresses.allowed(" Judge.local:80, 10.0.0.1:8000 ,") == {
        "judge.local:80",
        "10.0.0.1:8000",
    }


def test_a_certificate_is_held_against_the_name_and_not_the_address(tmp_path):
    """The connection goes to an address, but TLS still speaks to the name in the URL."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    folder = str(tmp_path)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout",
         f"{folder}/key", "-out", f"{folder}/cert", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = HTTPServer(("127.0.0.1", 0), Hello)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(f"{folder}/cert", f"{folder}/key")
    server.socket = theirs.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    trusted = ssl.create_default_context(cafile=f"{folder}/cert")

    async def ask(host: str) -> str:
        transport = Guarded({f"{host}:{port}"}, trusted)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            return (await client.get(f"https://{host}:{port}/")).text

    try:
        assert asyncio.run(ask("localhost")) == f"localhost:{port}"
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            asyncio.run(ask("127.0.0.1"))
    finally:
        server.shutdown()
        server.server_close()


class Hello(BaseHTTPRequestHandler):
    """Says the host that it was asked for."""

    def do_GET(self) -> None:
        said = self.headers["host"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: Any) -> None:
        pass
