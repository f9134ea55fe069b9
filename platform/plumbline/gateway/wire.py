"""OpenAI's wire format as the gateway speaks it: which requests it takes, and how it says no.

Only listed parameters pass, each checked for its type and bound, and messages are rebuilt from
role and text alone; whatever else a client sends is refused by name rather than ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

LARGEST_BODY = 1 << 20  # bytes
MOST_CHOICES = 8
MOST_PROMPTS = 32
MOST_STOPS = 4
MOST_LOGPROBS = 20
LONGEST_NAME = 256
MOST_METADATA = 16
LONGEST_METADATA = (64, 512)  # characters of a key, of a value

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer other than the one asked for, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        usual = "server_error" if status >= 500 else "invalid_request_error"
        kind = kind or TYPES.get(status, usual)
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self, headers: Mapping[str, str]) -> JSONResponse:
        extra = {"retry-after": str(self.retry_after)} if self.retry_after else {}
        if self.status == 401:
            extra["www-authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers={**headers, **extra})


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
    `user` is the client's name for its user, which is used and not kept."""

    model: str
    stream: bool
    include_usage: bool
    body: dict[str, Any] = field(repr=False)
    stored: Stored | None = field(default=None, repr=False)
    best_of: int = 1  # answers of which the client gets the best; `n` in the body says as many
    user: str = field(default="", repr=False)


Check = Callable[[str, Any], Any]


def parse(raw: bytes, longest: int, *, chat: bool) -> Asked:
    """Check a request. `longest` bounds the tokens asked for. Raises ApiError naming what is wrong.

    The client's name for its user goes to no engine, and is kept with texts that are to be stored
    alone, as a hash. It stands in `user`, or in `safety_identifier`, which OpenAI replaces that by.
    """
    data = object_of(raw)
    checks = _chat_checks(longest) if chat else _completion_checks(longest)
    body = {}
    for name, value in data.items():
        if name not in checks:
            raise ApiError(
                400, f"Unknown parameter: {name!r}.", param=name, code="unknown_parameter"
            )
        if value is not None:
            body[name] = checks[name](name, value)
    for name in ("model", "messages" if chat else "prompt"):
        if name not in body:
            raise ApiError(400, f"Missing required parameter: {name!r}.", param=name)
    user = _user(body)
    stored = _stored(body, user)
    best_of = _best_of(body)
    stream = body.setdefault("stream", False)
    options = body.pop("stream_options", None)
    if options is not None and not stream:
        raise bad("stream_options", "is only allowed when stream is true")
    if stream:  # the journal wants the usage of every request
        body["stream_options"] = {"include_usage": True}
    _check_amount(body)
    include_usage = bool(options and options["include_usage"])
    return Asked(body.pop("model"), stream, include_usage, body, stored, best_of, user)


async def body_of(request: Request) -> bytes:
    """The whole body of a request. Raises ApiError where it is larger than any we take."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST_BODY:
            raise ApiError(413, f"The request body is larger than {LARGEST_BODY >> 20} MiB.")
    return bytes(raw)


def bad(name: str, trouble: str) -> ApiError:
    return ApiError(400, f"Invalid {name!r}: it {trouble}.", param=name)


def object_of(raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw.decode(), parse_constant=_no_constant)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is bad: {error}"
        raise ApiError(400, f"The JSON of the request body {what}.") from error
    if not isinstance(data, dict):
        raise ApiError(400, "The request body must be a JSON object.")
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _chat_checks(longest: int) -> dict[str, Check]:
    return {
        **_common_checks(longest),
        "messages": messages_of,
        "max_completion_tokens": _whole(1, longest),
        "logprobs": _flag,
        "top_logprobs": _whole(0, MOST_LOGPROBS),
        "store": _flag,
        "metadata": _metadata,
        "consent_train": _flag,
        "best_of": _whole(1, MOST_CHOICES),
    }


def _completion_checks(longest: int) -> dict[str, Check]:
    return {
        **_common_checks(longest),
        "prompt": _prompt,
        "logprobs": _whole(0, MOST_LOGPROBS),
    }


def _common_checks(longest: int) -> dict[str, Check]:
    return {
        "model": _words,
        "n": _whole(1, MOST_CHOICES),
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "max_tokens": _whole(1, longest),
        "stop": _stop,
        "seed": _whole(-(2**63), 2**63 - 1),
        "stream": _flag,
        "stream_options": _stream_options,
        "presence_penalty": _number(-2, 2),
        "frequency_penalty": _number(-2, 2),
        "user": _words,
        "safety_identifier": _words,
    }


def _whole(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad(name, "must be an integer")
        if not low <= value <= high:
            raise bad(name, f"must be from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise bad(name, "must be a number")
        if not low <= value <= high:
            raise bad(name, f"must be from {low:g} to {high:g}")
        return value

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise bad(name, "must be true or false")
    return value


def _words(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise bad(name, f"must be a string of 1 to {LONGEST_NAME} characters")
    return value


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
        "include_usage": _flag("stream_options.include_usage", value.get("include_usage", False))
    }


def _metadata(name: str, value: Any) -> dict[str, str]:
    if (
        not isinstance(value, dict)
        or len(value) > MOST_METADATA
        or not all(0 < len(key) <= LONGEST_METADATA[0] for key in value)
        or not all(isinstance(v, str) and len(v) <= LONGEST_METADATA[1] for v in value.values())
    ):
        keys, values = LONGEST_METADATA
        raise bad(
            name,
            f"must be an object of at most {MOST_METADATA} strings of at most {values} characters, "
            f"under keys of at most {keys}",
        )
    return value


def _user(body: dict[str, Any]) -> str:
    """Takes the client's name for its user out of the body."""
    safety, user = body.pop("safety_identifier", ""), body.pop("user", "")
    return str(user or safety)


def _stored(body: dict[str, Any], user: str) -> Stored | None:
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
    if body.get("tools"):
        raise bad("best_of", "cannot choose between calls of tools")
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


def messages_of(name: str, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise bad(name, "must be a list of at least one message")
    return [_message(f"messages[{i}]", one) for i, one in enumerate(value)]


def _message(name: str, value: Any) -> dict[str, str]:
    """Role and text, nothing else: images would make the engine fetch what a client names."""
    if not isinstance(value, dict):
        raise bad(name, "must be an object with role and content")
    given = {key for key, one in value.items() if one not in (None, [])}
    if unknown := sorted(given - {"role", "content", "name"}):
        raise ApiError(
            400, f"Unknown parameter: '{name}.{unknown[0]}'.", param=name, code="unknown_parameter"
        )
    if value.get("role") not in ("system", "user", "assistant"):
        raise bad(f"{name}.role", "must be system, user or assistant")
    content = value.get("content")
    if isinstance(content, list):
        if not all(
            isinstance(part, dict)
            and part.get("type") == "text"
            and isinstance(part.get("text"), str)
            for part in content
        ):
            raise bad(f"{name}.content", "may hold parts of type text only")
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise bad(f"{name}.content", "must be a string")
    return {"role": value["role"], "content": content}


def _check_amount(body: Mapping[str, Any]) -> None:
    prompts = body["prompt"] if isinstance(body.get("prompt"), list) else [None]
    if len(prompts) * body.get("n", 1) > MOST_PROMPTS:
        raise bad("n", f"may ask for at most {MOST_PROMPTS} answers in one request")
    if "top_logprobs" in body and not body.get("logprobs"):
        raise bad("top_logprobs", "is only allowed when logprobs is true")
