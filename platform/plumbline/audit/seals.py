"""How an entry is sealed: HMAC-SHA-256 over its own values and the seal of the one before.

The key never is in the database. It is AUDIT_KEY, or made from SECRET_KEY where there is none;
AUDIT_KEYS_BEFORE holds those that sealed earlier entries.
"""

from __future__ import annotations

import hmac
import json
from datetime import UTC
from functools import lru_cache

from django.conf import settings

from plumbline.audit.models import AuditEntry

FIRST = "0" * 64  # what stands before entry 1


def current() -> tuple[str, bytes]:
    """The key for new entries, and its name."""
    key = _key(settings.AUDIT_KEY, settings.SECRET_KEY)
    return _name(key), key


def known() -> dict[str, bytes]:
    """All keys this process has, by name."""
    before = settings.AUDIT_KEYS_BEFORE
    keys = [current()[1], *(_key(text, "") for text in before)]
    # Entries from before there was an AUDIT_KEY.
    keys.append(_key("", settings.SECRET_KEY))
    return {_name(key): key for key in keys}


def seal(entry: AuditEntry, key: bytes) -> str:
    return hmac.digest(key, body(entry), "sha256").hex()


def body(entry: AuditEntry) -> bytes:
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    values = [
        *(entry.previous, entry.number, at, entry.who, entry.what),
        *(entry.project, entry.object, entry.details, entry.key),
    ]
    return json.dumps(values).encode()


@lru_cache(maxsize=16)
def _key(given: str, secret_key: str) -> bytes:
    return hmac.digest((given or secret_key).encode(), b"plumbline.audit", "sha256")


def _name(key: bytes) -> str:
    return hmac.digest(key, b"name", "sha256").hex()[:8]
