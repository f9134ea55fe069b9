"""Signed links through which a browser gives feedback on one answer, once and without a key.

Everything a link allows stands in it, under our signature: which project and answer, for which
user, until when. Nothing is stored until it is used. The key it was made with must still be alive.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass

from plumbline.gateway import ids

PURPOSE = "feedback link"
LONGEST = 1000  # characters of a token


@dataclass(frozen=True)
class Link:
    """`end_user` is the hash already; `expires` in seconds since 1970."""

    project: int
    key: int
    completion_id: str
    choice: int
    end_user: str
    expires: int
    name: str  # of the one feedback that it gives

    @property
    def expired(self) -> bool:
        return time.time() >= self.expires


def make(
    project: int, key: int, completion_id: str, choice: int, end_user: str, seconds: int
) -> tuple[str, Link]:
    """The token of a new link, and what it says."""
    name = f"link_{secrets.token_hex(16)}"
    expires = int(time.time()) + seconds
    link = Link(project, key, completion_id, choice, end_user, expires, name)
    said = json.dumps(list(asdict(link).values()), separators=(",", ":"))
    payload = base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")
    return f"{payload}.{ids.sign(PURPOSE, payload)}", link


def read(token: str) -> Link | None:
    """What a token says, expired or not; None when the signature is not ours."""
    payload, _, signature = token.partition(".")
    if len(token) > LONGEST or not token.isascii():
        return None
    if not hmac.compare_digest(signature, ids.sign(PURPOSE, payload)):
        return None
    try:
        return Link(*json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    except (binascii.Error, ValueError, TypeError):  # signed by an earlier version of us
        return None
