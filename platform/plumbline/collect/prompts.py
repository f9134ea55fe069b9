"""The identity of a prompt in its set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from align.jobs import Message


def digest(messages: Sequence[Message]) -> str:
    """SHA-256 of the canonical messages."""
    canonical = [[message["role"], message["content"]] for message in messages]
    return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()
