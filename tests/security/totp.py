"""An authenticator app for tests, after RFC 6238."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time

PASSWORD = "a long enough secret"


def code(secret: str, ago: int = 0) -> str:
    """The code of now, or of so many half minutes ago; -1 is the next one."""
    counter = struct.pack(">Q", int(time.time()) // 30 - ago)
    digest = hmac.digest(base64.b32decode(secret.replace(" ", "")), counter, hashlib.sha1)
    start = digest[-1] & 15
    number = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**6:06}"


def secret_on(page: str) -> str:
    return re.search(r'id="totp-secret">([A-Z2-7 ]+)<', page)[1]


def turn_on(client) -> tuple[str, list[str]]:
    """Go through the pages, with a password if one is asked for: (the secret, recovery codes)."""
    page = client.get("/accounts/second-factor/", follow=True)
    if "/accounts/again/" in page.request["PATH_INFO"]:
        form = {"password": PASSWORD, "next": "/accounts/second-factor/"}
        page = client.post("/accounts/again/", form, follow=True)
    secret = secret_on(page.content.decode())
    page = client.post("/accounts/second-factor/", {"code": code(secret)}, follow=True)
    return secret, re.findall(r"<li>(\d{10})</li>", page.content.decode())
