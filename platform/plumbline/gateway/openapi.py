"""The API described as an OpenAPI 3.1 document, served at /v1/openapi.json without a key.

Names and bounds are those of the checks (`wire`, `wire_responses`, `said`), which decide: a test
holds the document's names against theirs, and sends what it allows and what it does not. What one
field says of another (`n` beside `best_of`) is in the descriptions alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from plumbline.gateway import said, wire
from plumbline.gateway.wire_checks import (
    LARGEST_BIAS,
    LONGEST_METADATA,
    LONGEST_NAME,
    MOST_BIASES,
    MOST_METADATA,
)
from plumbline.gateway.wire_tools import MOST_TOOLS

Schema = dict[str, Any]
FLAG: Schema = {"type": ["boolean", "null"]}
WORDS: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": LONGEST_NAME}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
OBJECT: Schema = {"type": ["object", "null"]}
ID: Schema = {"type": ["string", "null"], "maxLength": said.LONGEST_ID, "pattern": said.ID.pattern}
TURNS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"type": ["string", "array", "null"]},
            "name": {"type": ["string", "null"]},
            "tool_calls": {"type": ["array", "null"]},
            "tool_call_id": {"type": ["string", "null"]},
        },
        "additionalProperties": False,
    },
}
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
REFUSALS = {
    "400": "It is no such request; `param` names what is wrong.",
    "401": "There is no key, or it is not good.",
    "403": "The key's scopes do not hold this.",
    "404": "It does not exist in the key's project.",
    "408": "The body did not arrive in time.",
    "409": "The same name was given to other words before.",
    "410": "The link is over.",
    "413": "The body is too large.",
    "429": "A limit of the key is used up; `retry-after` says until when.",
    "503": "What answers is away for the moment; `retry-after` says how long to wait.",
}


def _whole(least: int, most: int) -> Schema:
    return {"type": ["integer", "null"], "minimum": least, "maximum": most}


def _number(least: float, most: float) -> Schema:
    return {"type": ["number", "null"], "minimum": least, "maximum": most}


def _body(required: list[str], properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _common(longest: int) -> Schema:
    return {
        "model": NAME,
        "n": _whole(1, wire.MOST_CHOICES),
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "max_tokens": _whole(1, longest),
        "stop": {
            "type": ["string", "array", "null"],
            "minLength": 1,
            "maxLength": LONGEST_NAME,
            "maxItems": wire.MOST_STOPS,
            "items": NAME,
        },
        "seed": _whole(-(2**63), 2**63 - 1),
        "stream": FLAG,
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": "boolean"}},
            "additionalProperties": False,
        },
        "presence_penalty": _number(-2, 2),
        "frequency_penalty": _number(-2, 2),
        "logit_bias": {
            "type": ["object", "null"],
            "maxProperties": MOST_BIASES,
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {
                "type": "number",
                "minimum": -LARGEST_BIAS,
                "maximum": LARGEST_BIAS,
            },
        },
        "user": WORDS,
        "safety_identifier": WORDS,
    }


def _kept() -> Schema:
    """What asks for texts to be kept."""
    key, value = LONGEST_METADATA
    return {
        "store": FLAG,
        "metadata": {
            "type": ["object", "null"],
            "maxProperties": MOST_METADATA,
            "propertyNames": {"minLength": 1, "maxLength": key},
            "additionalProperties": {"type": "string", "maxLength": value},
        },
        "consent_train": FLAG,
    }


def _tools() -> Schema:
    return {
        "tools": {"type": ["array", "null"], "minItems": 1, "maxItems": MOST_TOOLS},
        "tool_choice": {"type": ["string", "object", "null"]},
        "parallel_tool_calls": FLAG,
    }


def chat(longest: int) -> Schema:
    return _body(
        ["model", "messages"],
        {
            **_common(longest),
            **_kept(),
            **_tools(),
            "messages": TURNS,
            "max_completion_tokens": _whole(1, longest),
            "logprobs": FLAG,
            "top_logprobs": _whole(0, wire.MOST_LOGPROBS),
            "response_format": OBJECT,
            "best_of": _whole(1, wire.MOST_CHOICES),
        },
    )


def plain(longest: int) -> Schema:
    prompt = {"type": "string", "minLength": 1}
    return _body(
        ["model", "prompt"],
        {
            **_common(longest),
            "prompt": {
                "oneOf": [
                    prompt,
                    {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": wire.MOST_PROMPTS,
                        "items": prompt,
                    },
                ]
            },
            "logprobs": _whole(0, wire.MOST_LOGPROBS),
        },
    )


def responses(longest: int) -> Schema:
    given = {"type": ["string", "array"], "minLength": 1, "minItems": 1}
    return _body(
        ["model", "input"],
        {
            **_kept(),
            **_tools(),
            "model": NAME,
            "input": given,
            "instructions": {"type": ["string", "null"]},
            "max_output_tokens": _whole(1, longest),
            "temperature": _number(0, 2),
            "top_p": _number(0, 1),
            "include": {"type": ["array", "null"]},
            "top_logprobs": _whole(0, wire.MOST_LOGPROBS),
            "text": OBJECT,
            "stream": FLAG,
            "user": WORDS,
            "safety_identifier": WORDS,
            "previous_response_id": {"type": "null"},
            "conversation": {"type": "null"},
            "background": {"enum": [False, None]},
            "truncation": {"enum": ["disabled", None]},
        },
    )


def _say() -> Schema:
    text = {"type": ["string", "null"], "minLength": 1, "maxLength": said.LONGEST_TEXT}
    return {
        "key": {"type": "string", "minLength": 1, "maxLength": said.LONGEST_KEY},
        "score": {
            "type": ["number", "boolean", "null"],
            "minimum": -said.HIGHEST_SCORE,
            "maximum": said.HIGHEST_SCORE,
        },
        "value": {"type": ["string", "number", "boolean", "null"]},
        "comment": {"type": ["string", "null"], "maxLength": said.LONGEST_COMMENT},
        "correction": {"type": ["string", "object", "null"]},
        "text": text,
        "consent_train": FLAG,
    }


def _about() -> Schema:
    user = {"type": ["string", "null"], "minLength": 1, "maxLength": said.LONGEST_USER}
    return {
        "completion_id": {"type": "string", "minLength": 1, "maxLength": 80},
        "choice": _whole(0, said.MOST_CHOICES - 1),
        "end_user": user,
    }


def feedback() -> Schema:
    return _body(["completion_id", "key"], {**_about(), **_say(), "feedback_id": ID})


def by_link() -> Schema:
    return _body(["key"], _say())


def link() -> Schema:
    lasts = _whole(said.SHORTEST_LINK, said.LONGEST_LINK)
    return _body(["completion_id"], {**_about(), "expires_in": lasts})


def comparison() -> Schema:
    order = {"type": ["array", "null"]}
    return _body(
        ["responses"],
        {
            "comparison_id": ID,
            "prompt": {"type": ["string", "null"], "minLength": 1, "maxLength": said.LONGEST_TEXT},
            "messages": {**TURNS, "type": ["array", "null"]},
            "responses": {"type": "array", "minItems": 2, "maxItems": said.MOST_RESPONSES},
            "ranking": order,
            "tie_groups": order,
            "chosen": _whole(0, said.MOST_RESPONSES - 1),
            "comment": {"type": ["string", "null"], "maxLength": said.LONGEST_COMMENT},
            "consent_train": FLAG,
            "end_user": _about()["end_user"],
        },
    )


def forget() -> Schema:
    user = {"type": "string", "minLength": 1, "maxLength": said.LONGEST_USER}
    return _body(["end_user"], {"end_user": user})


def _operation(
    scope: str, what: str, good: str = "200", body: Schema | None = None, at: str = ""
) -> Schema:
    """`scope`: of the key; "" where none is asked for. `at`: what the path names."""
    json = {"application/json": {"schema": ERROR}}
    made: Schema = {
        "summary": what,
        "responses": {
            good: {"description": "What was asked for."},
            **{code: {"description": said, "content": json} for code, said in REFUSALS.items()},
        },
        "security": [{"key": [scope]}] if scope else [],
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if at:
        place = {"name": at, "in": "path", "required": True}
        made["parameters"] = [{**place, "schema": {"type": "string", "minLength": 1}}]
    return made


@cache
def document(longest: int) -> Schema:
    """`longest` bounds the tokens that a request may ask for."""
    model = _operation("infer", "One of them.", at="model")
    here = _operation("", "Feedback through a link.", "202", by_link(), "token")
    one, two = (_operation("feedback", "What was sent.", at="name") for _ in range(2))
    link_made = _operation("feedback", "A link for a browser.", "201", link())
    compared = _operation("feedback", "Answers that were compared.", "202", comparison())
    return {
        "openapi": "3.1.0",
        "info": {"title": "Plumbline", "version": "1"},
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/v1/models": {"get": _operation("infer", "Models of the key's project.")},
            "/v1/models/{model}": {"get": model},
            "/v1/chat/completions": {
                "post": _operation("infer", "An answer to a conversation.", body=chat(longest))
            },
            "/v1/completions": {
                "post": _operation("infer", "A text that goes on.", body=plain(longest))
            },
            "/v1/responses": {
                "post": _operation("infer", "An answer to items.", body=responses(longest))
            },
            "/v1/feedback": {
                "post": _operation("feedback", "A word on an answer.", "202", feedback())
            },
            "/v1/feedback/{name}": {"get": one},
            "/v1/feedback/links": {"post": link_made},
            "/v1/feedback/links/{token}": {"post": here},
            "/v1/comparisons": {"post": compared},
            "/v1/comparisons/{name}": {"get": two},
            "/v1/end_users/forget": {
                "post": _operation("feedback", "Forget somebody.", body=forget())
            },
        },
    }
