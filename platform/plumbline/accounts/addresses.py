"""Where a request comes from. Each proxy appends to `X-Forwarded-For` whom it heard, so only as
many of its last entries can be believed as there are proxies of ours; those before them are the
client's to invent.
"""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "unknown"


def client_address(request: HttpRequest) -> str:
    """The client's IP address, of IPv6 its /64, which one subscriber has whole."""
    said = str(request.META.get("REMOTE_ADDR", ""))
    heard = [one for one in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if one]
    proxies: int = settings.TRUSTED_PROXIES
    if 0 < proxies <= len(heard):
        said = heard[-proxies]
    try:
        address = ipaddress.ip_address(said.strip())
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)
