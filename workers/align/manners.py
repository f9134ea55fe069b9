"""What an endpoint wants to be asked like, where it refuses the usual way.

Newer models of OpenAI want the limit under the name `max_completion_tokens` and no temperature but
their own. A client begins with what is known of its endpoint, learns the rest from a refusal that
names the field, and asks again; it learns each thing once, so that an endpoint that refuses either
way is not asked for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens")
REFUSED = (400, 422)  # statuses by which a field is refused
UNFIT = ("unsupported", "not support", "does not support", "unrecognized", "unknown", "only the")


@dataclass
class Manners:
    """limit: the name of the limit on tokens. own_temperature: whether none may be asked for.
    learned: what refusals taught this client."""

    limit: str = LIMITS[0]
    own_temperature: bool = False
    learned: set[str] = field(default_factory=set)

    def spoken(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request with `max_tokens` and `temperature`, as the endpoint wants it."""
        said = dict(body)
        said[self.limit] = said.pop(LIMITS[0])
        if self.own_temperature:
            del said["temperature"]
        return said

    def learn(self, status: int, content: bytes, sent: Mapping[str, Any]) -> bool:
        """Whether the same question is worth asking again: a refusal named a field as it was sent,
        and what is known by now would send it otherwise."""
        if status not in REFUSED:
            return False
        message, param = _complaint(content)
        unfit = any(sign in message.lower() for sign in UNFIT)
        sent_limit = next(name for name in LIMITS if name in sent)
        other = LIMITS[1 - LIMITS.index(sent_limit)]
        if param == sent_limit or (not param and sent_limit in message):
            if unfit and self.limit == sent_limit and "limit" not in self.learned:
                self.limit = other
                self.learned.add("limit")
            return unfit and self.limit != sent_limit
        if "temperature" in sent and (param or message).lower().find("temperature") >= 0 and unfit:
            if not self.own_temperature:
                self.own_temperature = True
                self.learned.add("temperature")
            return True
        return False

    def told(self) -> dict[str, Any]:
        """For a job's result: {"manners": ...} where something was learned, else nothing."""
        if not self.learned:
            return {}
        said = {name: value for name, value in asdict(self).items() if name != "learned"}
        return {"manners": said}


def _complaint(content: bytes) -> tuple[str, str]:
    """The message of a refusal, and the field that it names, "" where it names none."""
    try:
        error = json.loads(content)["error"]
        return str(error["message"]), str(error.get("param") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return content[:2000].decode(errors="replace"), ""
