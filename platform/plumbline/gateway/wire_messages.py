"""Conversations in a request, rebuilt turn by turn from what is known of a turn.

Texts and calls of tools pass and nothing else: images would make the engine fetch what a client
names. Instructions of a `developer` are the system's, as templates of open models know no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.gateway.errors import bad, missing, unknown
from plumbline.gateway.wire_checks import fields, text, words
from plumbline.gateway.wire_tools import function_name

Turn = dict[str, Any]  # role and content; tool_calls of an assistant, tool_call_id of a tool
SPEAKERS = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
PLAIN, CALLING = (
    "system, developer, user or assistant",
    "system, developer, user, assistant or tool",
)
MOST_CALLS = 128  # in one message


def messages_of(name: str, value: Any) -> list[Turn]:
    """Turns of text alone."""
    return [_plain(where, one, PLAIN) for where, one in _listed(name, value)]


def turns_of(name: str, value: Any) -> list[Turn]:
    """Turns, calls of tools and what the tools said included, each after the call it answers."""
    turns, called = [], set[str]()
    for where, one in _listed(name, value):
        role = one.get("role") if isinstance(one, dict) else None
        if role == "tool":
            turns.append(_answered(where, one, called))
        elif role == "assistant" and one.get("tool_calls"):
            turn = _calling(where, one)
            called |= {call["id"] for call in turn["tool_calls"]}
            turns.append(turn)
        else:
            turns.append(_plain(where, one, CALLING))
    return turns


def content_of(name: str, value: Any, kinds: Sequence[str] = ("text",)) -> str:
    """A string, or parts of text, which become one."""
    if isinstance(value, list):
        for part in value:
            if (
                not isinstance(part, dict)
                or part.get("type") not in kinds
                or not isinstance(part.get("text"), str)
            ):
                raise bad(name, f"may hold parts of type {' or '.join(kinds)} only")
        return "\n".join(part["text"] for part in value)
    return text(name, value)


def call(id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call of a function as a turn of an assistant holds it."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _listed(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, list) or not value:
        raise bad(name, "must be a list of at least one message")
    return [(f"{name}[{i}]", one) for i, one in enumerate(value)]


def _plain(name: str, value: Any, roles: str) -> Turn:
    _known(name, value, {"role", "content", "name"})
    role = value.get("role")
    if not isinstance(role, str) or role not in SPEAKERS:
        raise bad(f"{name}.role", f"must be {roles}")
    return {"role": SPEAKERS[role], "content": content_of(f"{name}.content", value.get("content"))}


def _calling(name: str, value: Turn) -> Turn:
    """What an assistant says beside its calls may be missing."""
    _known(name, value, {"role", "content", "name", "tool_calls"})
    calls, content = value["tool_calls"], value.get("content")
    if not isinstance(calls, list) or len(calls) > MOST_CALLS:
        raise bad(f"{name}.tool_calls", f"must be a list of at most {MOST_CALLS} calls")
    return {
        "role": "assistant",
        "content": None if content is None else content_of(f"{name}.content", content),
        "tool_calls": [_call(f"{name}.tool_calls[{i}]", one) for i, one in enumerate(calls)],
    }


def _call(name: str, value: Any) -> dict[str, Any]:
    given = fields(name, value, ("id", "type", "function"), ("id", "function"))
    if given.get("type", "function") != "function":
        raise bad(f"{name}.type", "must be function")
    inner = ("name", "arguments")
    function = fields(f"{name}.function", given["function"], inner, inner)
    return call(
        words(f"{name}.id", given["id"]),
        function_name(f"{name}.function.name", function["name"]),
        text(f"{name}.function.arguments", function["arguments"]),
    )


def _answered(name: str, value: Turn, called: set[str]) -> Turn:
    _known(name, value, {"role", "content", "name", "tool_call_id"})
    if value.get("tool_call_id") is None:
        raise missing(f"{name}.tool_call_id")
    id = words(f"{name}.tool_call_id", value["tool_call_id"])
    if id not in called:
        raise bad(f"{name}.tool_call_id", "must name a call of an assistant's message before it")
    content = content_of(f"{name}.content", value.get("content"))
    return {"role": "tool", "tool_call_id": id, "content": content}


def _known(name: str, value: Any, known: set[str]) -> None:
    if not isinstance(value, dict):
        raise bad(name, "must be an object with role and content")
    given = {key for key, one in value.items() if one not in (None, [])}
    if others := sorted(given - known):
        raise unknown(f"{name}.{others[0]}", name)
