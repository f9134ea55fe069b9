"""Requests of `/v1/responses`: what passes, rebuilt, and what is refused.

Nothing is kept between requests, so whatever refers to an earlier one is refused: a client sends
the whole conversation as `input`, and may put an answer's `output` into it as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plumbline.gateway.errors import ApiError, bad
from plumbline.gateway.wire import MOST_LOGPROBS, Asked, checked, stored_of, user_of
from plumbline.gateway.wire_checks import (
    Check,
    fields,
    flag,
    metadata,
    number,
    text,
    whole,
    words,
)
from plumbline.gateway.wire_messages import SPEAKERS, Turn, call, content_of
from plumbline.gateway.wire_tools import (
    check_use,
    flat_choice,
    flat_format,
    flat_tools,
    function_name,
)

LOGPROBS = "message.output_text.logprobs"
PARTS = {"assistant": ("output_text",)}  # others say input_text
MESSAGE = ("type", "role", "content", "id", "status")
CALL = ("type", "call_id", "name", "arguments", "id", "status")
RESULT = ("type", "call_id", "output", "id", "status")
ONLY: dict[str, Any] = {"background": False, "truncation": "disabled"}


def parse_response(raw: bytes, longest: int) -> Asked:
    """Check a request. `longest` bounds the tokens asked for. Raises ApiError naming what is wrong.

    `store` means what it means with chat completions: the texts are kept where it is true, for
    feedback and not for later requests.
    """
    body = checked(raw, _checks(longest), ("model", "input"))
    for name in ONLY:
        body.pop(name, None)
    user = user_of(body)
    stored = stored_of(body, user)
    check_use(body)
    if "top_logprobs" in body and "include" not in body:
        raise bad("top_logprobs", f"is only allowed when include names {LOGPROBS}")
    turns = _turns(body)
    stream = body.setdefault("stream", False)
    model, body = body.pop("model"), {**body, "store": False}
    return Asked(model, stream, True, body, stored, turns, user=user)


def _checks(longest: int) -> dict[str, Check]:
    return {
        "model": words,
        "input": _input,
        "instructions": text,
        "max_output_tokens": whole(1, longest),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "include": _include,
        "top_logprobs": whole(0, MOST_LOGPROBS),
        "tools": flat_tools,
        "tool_choice": flat_choice,
        "parallel_tool_calls": flag,
        "text": _text,
        "stream": flag,
        "store": flag,
        "metadata": metadata,
        "consent_train": flag,
        "user": words,
        "safety_identifier": words,
        "previous_response_id": _stateless,
        "conversation": _stateless,
        **dict.fromkeys(ONLY, _only),
    }


def _stateless(name: str, value: Any) -> None:
    said = f"{name!r} is not supported: nothing is kept between requests; send all as 'input'."
    raise ApiError(400, said, param=name, code="unsupported_parameter")


def _only(name: str, value: Any) -> Any:
    if value != ONLY[name]:
        raise bad(name, f"may be {str(ONLY[name]).lower()} only")
    return value


def _include(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or any(one != LOGPROBS for one in value):
        raise bad(name, f"may name {LOGPROBS} only")
    return value


def _text(name: str, value: Any) -> dict[str, Any]:
    given = fields(name, value, ("format",))
    return {"format": flat_format(f"{name}.format", given.get("format", {"type": "text"}))}


def _input(name: str, value: Any) -> str | list[dict[str, Any]]:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list) or not value:
        raise bad(name, "must be a string or a list of items, and not empty")
    items: list[dict[str, Any]] = []
    called: set[str] = set()
    for i, one in enumerate(value):
        items.append(_item(f"{name}[{i}]", one, called))
    return items


def _item(name: str, value: Any, called: set[str]) -> dict[str, Any]:
    """An item rebuilt; its id and status are its own affair. Remembers the calls in `called`."""
    kind = value.get("type", "message") if isinstance(value, Mapping) else "message"
    if kind == "message":
        return _message(name, fields(name, value, MESSAGE, ("role", "content")))
    if kind == "function_call":
        given = fields(name, value, CALL, ("call_id", "name", "arguments"))
        id = words(f"{name}.call_id", given["call_id"])
        called.add(id)
        return {
            "type": kind,
            "call_id": id,
            "name": function_name(f"{name}.name", given["name"]),
            "arguments": text(f"{name}.arguments", given["arguments"]),
        }
    if kind == "function_call_output":
        given = fields(name, value, RESULT, ("call_id", "output"))
        id = words(f"{name}.call_id", given["call_id"])
        if id not in called:
            raise bad(f"{name}.call_id", "must name a function_call before it")
        said = content_of(f"{name}.output", given["output"], ("input_text",))
        return {"type": kind, "call_id": id, "output": said}
    raise bad(f"{name}.type", "must be message, function_call or function_call_output")


def _message(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    role = given["role"]
    if not isinstance(role, str) or role not in SPEAKERS:
        raise bad(f"{name}.role", "must be system, developer, user or assistant")
    said = content_of(f"{name}.content", given["content"], PARTS.get(role, ("input_text",)))
    return {"type": "message", "role": SPEAKERS[role], "content": said}


def _turns(body: Mapping[str, Any]) -> list[Turn]:
    """The conversation as chat completions spell it, for what is counted and kept of it."""
    turns: list[Turn] = []
    if instructions := body.get("instructions"):
        turns.append({"role": "system", "content": instructions})
    if isinstance(body["input"], str):
        return [*turns, {"role": "user", "content": body["input"]}]
    for item in body["input"]:
        if item["type"] == "message":
            turns.append({"role": item["role"], "content": item["content"]})
        elif item["type"] == "function_call":
            made = call(item["call_id"], item["name"], item["arguments"])
            turns.append({"role": "assistant", "content": None, "tool_calls": [made]})
        else:
            said = {"tool_call_id": item["call_id"], "content": item["output"]}
            turns.append({"role": "tool", **said})
    return turns
