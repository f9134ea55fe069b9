"""Which addresses are anybody's to ask, however they are written."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from align import addresses
from align.addresses import Forbidden, Guarded, public

PRIVATE = """127.0.0.1 127.8.8.8 10.0.0.1 172.16.5.5 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0
255.255.255.255 224.0.0.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 ff02::1 ::ffff:127.0.0.1
::ffff:169.254.169.254 64:ff9b::7f00:1 2002:7f00:1:: 2001::1 2001:db8::1""".split()
PUBLIC = "1.1.1.1 93.184.216.34 2606:4700:4700::1111 ::ffff:1.1.1.1 64:ff9b::101:101".split()


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
