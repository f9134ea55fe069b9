"""Checks of single values in a request: each returns what may pass or raises ApiError naming it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from plumbline.gateway.errors import bad, missing, unknown

LONGEST_NAME = 256
MOST_METADATA = 16
LONGEST_METADATA = (64, 512)  # characters of a key, of a value
MOST_BIASES = 300
LARGEST_BIAS = 100

Check = Callable[[str, Any], Any]


def whole(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad(name, "must be an integer")
        if not low <= value <= high:
            raise bad(name, f"must be from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise bad(name, "must be a number")
        if not low <= value <= high:
            raise bad(name, f"must be from {low:g} to {high:g}")
        return value

    return check


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise bad(name, "must be true or false")
    return value


def words(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise bad(name, f"must be a string of 1 to {LONGEST_NAME} characters")
    return value


def text(name: str, value: Any) -> str:
    """Of any length that a body may have."""
    if not isinstance(value, str):
        raise bad(name, "must be a string")
    return value


def metadata(name: str, value: Any) -> dict[str, str]:
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


def logit_bias(name: str, value: Any) -> dict[str, float]:
    """What is added to tokens' logits, by token id. Which ids there are, the engine knows."""
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise bad(name, f"must be an object of at most {MOST_BIASES} token ids and their biases")
    for token in value:
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise bad(name, f"may name tokens by their ids only, and {token[:20]!r} is none")
    return {key: number(-LARGEST_BIAS, LARGEST_BIAS)(f"{name}.{key}", value[key]) for key in value}


def fields(
    name: str, value: Any, known: Collection[str], required: Collection[str] = ()
) -> dict[str, Any]:
    """An object's fields but for those that are null, which count as not given."""
    if not isinstance(value, Mapping):
        raise bad(name, "must be an object")
    given = {key: one for key, one in value.items() if one is not None}
    for key in given:
        if key not in known:
            raise unknown(f"{name}.{key}")
    for key in required:
        if key not in given:
            raise missing(f"{name}.{key}")
    return given
