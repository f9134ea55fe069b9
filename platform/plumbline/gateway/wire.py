"""OpenAI's wire format as the gateway speaks it: which requests it takes, and how it says no.

Only listed parameters pass, each checked for its type and bound, and messages, tools and schemas
are rebuilt from what is known of them; whatever else a client sends is refused by name rather than
ignored. Responses have a page of their own, `wire_responses`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from starlette.requests import Request

from plumbline.gateway.errors import ApiError as ApiError
from plumbline.gateway.errors import bad as bad
from plumbline.gateway.errors import missing, unknown
from plumbline.gateway.wire_checks import (
    LONGEST_NAME,
    Check,
    flag,
    logit_bias,
    metadata,
    number,
    whole,
    words,
)
from plumbline.gateway.wire_messages import Turn, turns_of
from plumbline.gateway.wire_messages import messages_of as messages_of
from plumbline.gateway.wire_tools import check_use, nested_choice, nested_format, nested_tools

LARGEST_BODY = 1 << 20  # bytes
BODY_SECONDS = 20  # that a body may take to arrive
MOST_CHOICES = 8
MOST_PROMPTS = 32
MOST_STOPS = 4
MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Stored:
    """What a request to keep its texts says beside them. `consent_train`: the user agreed that
    models learn from them."""

    user: str
    metadata: dict[str, str]
    consent_train: bool = False


@dataclass(frozen=True)
class Asked:
    """A request that was understood. `body` is what the engine gets, but for the model's name;
    `turns` is the conversation in it, however it is spelled there; `user` is the client's name for
    its user, which is used and not kept."""

    model: str
    stream: bool
    include_usage: bool
    body: dict[str, Any] = field(repr=False)
    stored: Stored | None = field(default=None, repr=False)
    turns: list[Turn] = field(default_factory=list, repr=False)
    best_of: int = 1  # answers of which the client gets the best; `n` in the body says as many
    user: str = field(default="", repr=False)


def parse(raw: bytes, longest: int, *, chat: bool) -> Asked:
    """Check a request. `longest` bounds the tokens asked for. Raises ApiError naming what is wrong.

    The client's name for its user goes to no engine, and is kept with texts that are to be stored
    alone, as a hash. It stands in `user`, or in `safety_identifier`, which OpenAI replaces that by.
    """
    checks = _chat_checks(longest) if chat else _completion_checks(longest)
    body = checked(raw, checks, ("model", "messages" if chat else "prompt"))
    user = user_of(body)
    stored = stored_of(body, user)
    best_of = _best_of(body)
    stream = body.setdefault("stream", False)
    options = body.pop("stream_options", None)
    if options is not None and not stream:
        raise bad("stream_options", "is only allowed when stream is true")
    if stream:  # the journal wants the usage of every request
        body["stream_options"] = {"include_usage": True}
    _check_amount(body)
    check_use(body)
    include_usage = bool(options and options["include_usage"])
    turns = body.get("messages", [])
    return Asked(body.pop("model"), stream, include_usage, body, stored, turns, best_of, user)


def checked(raw: bytes, checks: Mapping[str, Check], required: tuple[str, ...]) -> dict[str, Any]:
    """A body's parameters, each through its check; those that are null count as not given."""
    body = {}
    for name, value in object_of(raw).items():
        if name not in checks:
            raise unknown(name)
        if value is not None:
            body[name] = checks[name](name, value)
    for name in required:
        if name not in body:
            raise missing(name)
    if b"\\u0000" in raw:  # the only way to write it, and no database keeps it
        for name, value in body.items():
            if _holds_nul(value):
                raise bad(name, "may not hold the character NUL")
    return body


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(one) for key, one in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


async def body_of(request: Request) -> bytes:
    """The whole body of a request. Raises ApiError where it is larger than any we take, unread
    where it says so itself, and where it does not come in time."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > LARGEST_BODY:
        raise _too_large()
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                raw += piece
                if len(raw) > LARGEST_BODY:
                    raise _too_large()
    except TimeoutError as error:
        said = f"The request body did not arrive within {BODY_SECONDS} seconds."
        raise ApiError(408, said, code="request_timeout") from error
    return bytes(raw)


def _too_large() -> ApiError:
    return ApiError(413, f"The request body is larger than {LARGEST_BODY >> 20} MiB.")


def object_of(raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw.decode(), parse_constant=no_constant, object_pairs_hook=_once)
        if b"\\u" in raw:  # the only way to write half a surrogate pair, which is no text
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is bad: {error}"
        raise ApiError(400, f"The JSON of the request body {what}.") from error
    if not isinstance(data, dict):
        raise ApiError(400, "The request body must be a JSON object.")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a key that is said twice may each take another one of its values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} is said twice")
    return found


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


@cache
def _chat_checks(longest: int) -> dict[str, Check]:
    return {
        **_common_checks(longest),
        "messages": turns_of,
        "max_completion_tokens": whole(1, longest),
        "logprobs": flag,
        "top_logprobs": whole(0, MOST_LOGPROBS),
        "tools": nested_tools,
        "tool_choice": nested_choice,
        "parallel_tool_calls": flag,
        "response_format": nested_format,
        "store": flag,
        "metadata": metadata,
        "consent_train": flag,
        "best_of": whole(1, MOST_CHOICES),
    }


@cache
def _completion_checks(longest: int) -> dict[str, Check]:
    return {
        **_common_checks(longest),
        "prompt": _prompt,
        "logprobs": whole(0, MOST_LOGPROBS),
    }


def _common_checks(longest: int) -> dict[str, Check]:
    return {
        "model": words,
        "n": whole(1, MOST_CHOICES),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "max_tokens": whole(1, longest),
        "stop": _stop,
        "seed": whole(-(2**63), 2**63 - 1),
        "stream": flag,
        "stream_options": _stream_options,
        "presence_penalty": number(-2, 2),
        "frequency_penalty": number(-2, 2),
        "logit_bias": logit_bias,
        "user": words,
        "safety_identifier": words,
    }


def _stop(name: str, value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if (
        not isinstance(stops, list)
        or len(stops) > MOST_STOPS
        or not all(isinstance(one, str) and 0 < len(one) <= LONGEST_NAME for one in stops)
    ):
        raise bad(name, f"must be a string or a list of at most {MOST_STOPS} strings")
    return stops


def _stream_options(name: str, value: Any) -> dict[str, bool]:
    if not isinstance(value, dict) or not value.keys() <= {"include_usage"}:
        raise bad(name, "may hold include_usage only")
    return {
        "include_usage": flag("stream_options.include_usage", value.get("include_usage", False))
    }


def user_of(body: dict[str, Any]) -> str:
    """Takes the client's name for its user out of the body."""
    safety, user = body.pop("safety_identifier", ""), body.pop("user", "")
    return str(user or safety)


def stored_of(body: dict[str, Any], user: str) -> Stored | None:
    """Takes what only the keeping of texts is about out of the body."""
    store, metadata = body.pop("store", False), body.pop("metadata", None)
    consent = body.pop("consent_train", False)
    if metadata is not None and not store:
        raise bad("metadata", "is only allowed when store is true")
    if consent and not store:
        raise bad("consent_train", "is only allowed when store is true")
    return Stored(user, metadata or {}, consent) if store else None


def _best_of(body: dict[str, Any]) -> int:
    """Takes it out of the body, where `n` says then how many answers are written."""
    best_of = int(body.pop("best_of", 1))
    if best_of == 1:
        return 1
    if body.get("n", 1) != 1:
        raise bad("n", "must be 1 beside best_of, whose answer is one")
    if body.get("tools") or any("tool_calls" in turn for turn in body["messages"]):
        raise bad("best_of", "cannot judge calls of tools")
    body["n"] = best_of
    return best_of


def _prompt(name: str, value: Any) -> str | list[str]:
    if isinstance(value, str) and value:
        return value
    if (
        isinstance(value, list)
        and 0 < len(value) <= MOST_PROMPTS
        and all(isinstance(one, str) and one for one in value)
    ):
        return value
    raise bad(name, f"must be a string or a list of at most {MOST_PROMPTS} strings, none empty")


def _check_amount(body: Mapping[str, Any]) -> None:
    prompts = body["prompt"] if isinstance(body.get("prompt"), list) else [None]
    if len(prompts) * body.get("n", 1) > MOST_PROMPTS:
        raise bad("n", f"may ask for at most {MOST_PROMPTS} answers in one request")
    if "top_logprobs" in body and not body.get("logprobs"):
        raise bad("top_logprobs", "is only allowed when logprobs is true")
