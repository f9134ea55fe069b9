"""Log lines, as text or as JSON objects for machines that collect them, without secrets.

What is struck out: the secrets that this process was given, whole and wherever they stand (in a
message, a traceback, a URL), and what looks like one that Plumbline gives out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
SHORTEST = 6  # characters; a shorter one would strike out ordinary words
# A key of the API after its public prefix, links that sign in, invite or give feedback, what
# headers carry, a password in a URL.
SHAPES = re.compile(
    r"(?P<before>plk_[0-9a-f]{12}_|sesame=|/invitation/|/campaign/|/feedback/links/|sessionid=|"
    r"csrftoken=|[Bb]earer |[Bb]asic |://[^\s:/@]*:)(?P<secret>(?<=:)[^\s@/]+(?=@)|(?<!:)[\w.~+/=%-]{8,})"
)


class Hiding(logging.Formatter):
    """A formatter whose lines hold no secret."""

    def __init__(self, *args: Any, secrets: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        long = {one for one in secrets if len(one) >= SHORTEST}
        # As they are, in a URL, and in JSON or a repr.
        written = long | {quote(one, safe="") for one in long}
        written |= {json.dumps(one)[1:-1] for one in long} | {repr(one)[1:-1] for one in long}
        longest_first = sorted(written, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def hide(self, text: str) -> str:
        return SHAPES.sub(rf"\g<before>{HIDDEN}", self._known.sub(HIDDEN, text))

    def format(self, record: logging.LogRecord) -> str:
        return self.hide(super().format(record))


class JsonFormatter(Hiding):
    """Time, level, logger and message; `extra={"facts": {...}}` adds fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return self.hide(json.dumps(line, default=str))
