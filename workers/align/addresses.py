"""Which addresses a worker may ask: nothing inside its own network, unless somebody allowed it.

Researchers name the endpoints of judges, so a name could lead a worker to its host's own services.
The check is made where the name is resolved, of each request, and the connection goes to the very
address that was checked, so no second look-up can change it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Collection

import httpx

NAT64 = ipaddress.ip_network("64:ff9b::/96")
UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that is handed out to the internet
ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # before an IPv4 address, at the end of an IPv6 one
DEFAULT_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forbidden(ValueError):
    """An address inside the worker's own network that nobody allowed."""


def public(address: str) -> bool:
    """Whether anybody on the internet could reach it; private, loopback, link-local, shared and
    reserved ranges are not, however an IPv6 address wraps them."""
    found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    if isinstance(found, ipaddress.IPv6Address) and found not in UNICAST:
        return False  # Python calls some global that no router on the internet knows
    return found.is_global and not found.is_multicast


def allowed(listed: str) -> frozenset[str]:
    """The entries of PLUMBLINE_PRIVATE_ENDPOINTS: "host:port", with commas between."""
    return frozenset(one.strip().lower() for one in listed.split(",") if one.strip())


class Guarded(httpx.AsyncBaseTransport):
    """Sends requests to public addresses by https, and to the hosts and ports of `private`. A name
    is resolved once a request; Host header, certificate and SNI stay those of the name. `trusted`:
    authorities other than the usual ones."""

    def __init__(
        self, private: Collection[str] = (), trusted: ssl.SSLContext | None = None
    ) -> None:
        self._private = frozenset(private)
        verify = httpx.create_ssl_context(trust_env=False) if trusted is None else trusted
        self._inner = httpx.AsyncHTTPTransport(verify=verify, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises Forbidden where the name leads to a private address that is not allowed."""
        host = request.url.host
        port = request.url.port or DEFAULT_PORTS.get(request.url.scheme, 0)
        found = await _resolve(host, port)
        if f"{host}:{port}".lower() not in self._private:
            check(host, port, found)
            if request.url.scheme != "https":
                raise Forbidden(
                    f"{host} is on the internet and would be asked by {request.url.scheme}://, key "
                    "and texts for anybody on the way to read; give its https:// address"
                )
        last: httpx.ConnectError | httpx.ConnectTimeout | None = None
        for address in found:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last = error
        assert last is not None
        raise last

    async def aclose(self) -> None:
        await self._inner.aclose()


def check(host: str, port: int, found: Collection[str]) -> None:
    """Raises Forbidden naming the first address that is not public."""
    for address in found:
        if not public(address):
            raise Forbidden(
                f"{host} is at {address}, an address inside a private network, which is not asked. "
                f"Whoever runs the workers may allow it: PLUMBLINE_PRIVATE_ENDPOINTS={host}:{port}"
            )


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"there is no host called {host}: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it stands for one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    last = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in NAT64 or (int(address) >> 32) & 0xFFFF_FFFF in ISATAP:
        return last
    return address
