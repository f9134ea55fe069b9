"""Tools and JSON schemas in a request, rebuilt field by field and bounded.

An engine compiles a schema into a grammar before it writes a word, so schemas are bounded in size
and depth, and may refer to nothing but their own parts. Two spellings: chat completions put a
function's fields under `function` and a schema's under `json_schema`, responses beside the type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from plumbline.gateway.errors import bad, missing, unknown
from plumbline.gateway.wire_checks import fields, flag

MOST_TOOLS = 128
LONGEST_DESCRIPTION = 4096
LONGEST_SCHEMA = 20_000  # characters of its JSON
LONGEST_TOOLS = 100_000  # of all tools together
DEEPEST_SCHEMA = 40  # objects and lists within one another
LONGEST_PATTERN = 256
FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
CHOICES = ("none", "auto", "required")

FUNCTION = ("name", "description", "parameters", "strict")
FORMAT = ("name", "description", "schema", "strict")


def function_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not FUNCTION_NAME.fullmatch(value):
        raise bad(name, "must be 1 to 64 letters, digits, '_' and '-'")
    return value


def nested_tools(name: str, value: Any) -> list[dict[str, Any]]:
    """As chat completions spell them."""
    return _tools(name, value, nested=True)


def flat_tools(name: str, value: Any) -> list[dict[str, Any]]:
    """As responses spell them."""
    return _tools(name, value, nested=False)


def nested_choice(name: str, value: Any) -> str | dict[str, Any]:
    if not isinstance(value, Mapping):
        return _mode(name, value)
    given = fields(name, value, ("type", "function"), ("type", "function"))
    _is_function(name, given)
    inner = fields(f"{name}.function", given["function"], ("name",), ("name",))
    called = function_name(f"{name}.function.name", inner["name"])
    return {"type": "function", "function": {"name": called}}


def flat_choice(name: str, value: Any) -> str | dict[str, Any]:
    if not isinstance(value, Mapping):
        return _mode(name, value)
    given = fields(name, value, ("type", "name"), ("type", "name"))
    _is_function(name, given)
    return {"type": "function", "name": function_name(f"{name}.name", given["name"])}


def nested_format(name: str, value: Any) -> dict[str, Any]:
    """`response_format` of chat completions."""
    given = fields(name, value, ("type", "json_schema"), ("type",))
    if given["type"] != "json_schema":
        return _plain_format(name, given)
    if "json_schema" not in given:
        raise missing(f"{name}.json_schema")
    where = f"{name}.json_schema"
    inner = fields(where, given["json_schema"], FORMAT, ("name", "schema"))
    return {"type": "json_schema", "json_schema": _format(where, inner)}


def flat_format(name: str, value: Any) -> dict[str, Any]:
    """`text.format` of responses."""
    given = fields(name, value, ("type", *FORMAT), ("type",))
    if given["type"] != "json_schema":
        return _plain_format(name, given)
    for field in ("name", "schema"):
        if field not in given:
            raise missing(f"{name}.{field}")
    return {"type": "json_schema", **_format(name, given)}


def check_use(body: Mapping[str, Any]) -> None:
    """Raises ApiError where tools are spoken of that are not there."""
    tools = body.get("tools", [])
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in body and not tools:
            raise bad(name, "is only allowed when tools are given")
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        wanted = _function_of(choice)["name"]
        if wanted not in {_function_of(tool)["name"] for tool in tools}:
            raise bad("tool_choice", f"names {wanted!r}, which is not among the tools")


def texts(body: Mapping[str, Any]) -> list[str]:
    """What the engine reads of tools and schemas, as far as a request holds any."""
    said = list(body.get("tools", []))
    shapes = (body.get("response_format"), (body.get("text") or {}).get("format"))
    said += [one for one in shapes if one and one["type"] == "json_schema"]
    return [json.dumps(one, ensure_ascii=False) for one in said]


def _tools(name: str, value: Any, *, nested: bool) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_TOOLS:
        raise bad(name, f"must be a list of 1 to {MOST_TOOLS} tools")
    tools = [_tool(f"{name}[{i}]", one, nested) for i, one in enumerate(value)]
    names = [_function_of(tool)["name"] for tool in tools]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise bad(name, f"names the function {twice[0]!r} more than once")
    if len(json.dumps(tools, ensure_ascii=False)) > LONGEST_TOOLS:
        raise bad(name, f"may have {LONGEST_TOOLS} characters at most")
    return tools


def _tool(name: str, value: Any, nested: bool) -> dict[str, Any]:
    if isinstance(value, Mapping) and value.get("type") not in (None, "function"):
        raise bad(f"{name}.type", "must be function: the gateway runs no tools of its own")
    if not nested:
        given = fields(name, value, ("type", *FUNCTION), ("type", "name"))
        return {"type": "function", **_function(name, given)}
    given = fields(name, value, ("type", "function"), ("type", "function"))
    where = f"{name}.function"
    inner = fields(where, given["function"], FUNCTION, ("name",))
    return {"type": "function", "function": _function(where, inner)}


def _function(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = {"name": function_name(f"{name}.name", given["name"])}
    if "parameters" in given:
        function["parameters"] = _schema(f"{name}.parameters", given["parameters"])
    return {**function, **_aside(name, given)}


def _format(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": function_name(f"{name}.name", given["name"]),
        "schema": _schema(f"{name}.schema", given["schema"]),
        **_aside(name, given),
    }


def _plain_format(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if given["type"] not in ("text", "json_object"):
        raise bad(f"{name}.type", "must be text, json_object or json_schema")
    if others := sorted(set(given) - {"type"}):
        raise unknown(f"{name}.{others[0]}")
    return {"type": given["type"]}


def _aside(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A description, and whether the schema is to be kept to by the letter."""
    said: dict[str, Any] = {}
    if "description" in given:
        words = given["description"]
        if not isinstance(words, str) or len(words) > LONGEST_DESCRIPTION:
            most = f"must be a string of at most {LONGEST_DESCRIPTION} characters"
            raise bad(f"{name}.description", most)
        said["description"] = words
    if "strict" in given:
        said["strict"] = flag(f"{name}.strict", given["strict"])
    return said


def _schema(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad(name, "must be a JSON schema, which is an object")
    if len(json.dumps(value, ensure_ascii=False)) > LONGEST_SCHEMA:
        raise bad(name, f"may have {LONGEST_SCHEMA} characters at most")
    _walk(name, value, 1)
    return value


def _walk(name: str, value: Any, depth: int) -> None:
    if depth > DEEPEST_SCHEMA:
        raise bad(name, f"may be nested {DEEPEST_SCHEMA} deep at most")
    if isinstance(value, list):
        for one in value:
            _walk(name, one, depth + 1)
    if not isinstance(value, dict):
        return
    for key, one in value.items():
        if key in REFERENCES and isinstance(one, str) and not one.startswith("#"):
            raise bad(name, f"may refer to its own parts only, and {one[:80]!r} is elsewhere")
        if key == "pattern" and isinstance(one, str) and len(one) > LONGEST_PATTERN:
            raise bad(name, f"may have patterns of {LONGEST_PATTERN} characters at most")
        _walk(name, one, depth + 1)


def _mode(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in CHOICES:
        raise bad(name, f"must be {', '.join(CHOICES)}, or name a function")
    return value


def _is_function(name: str, given: Mapping[str, Any]) -> None:
    if given["type"] != "function":
        raise bad(f"{name}.type", "must be function")


def _function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a function, however they are spelled."""
    inner: Mapping[str, Any] = tool.get("function", tool)
    return inner
