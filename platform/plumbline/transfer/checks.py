"""What is wrong with a line of a file, by the name of the field: the parts validators are made of.

A format's `check` yields Problems for one JSON object; nothing here reads files or the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.transfer.rows import check_text

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Problem:
    field: str  # "chosen[0].role"; "" is the line as a whole
    sentence: str

    def __str__(self) -> str:
        return f"{self.field}: {self.sentence}" if self.field else self.sentence


def refuse(problems: Iterable[Problem]) -> None:
    """Raises ValueError with the first problem, if there is one."""
    for problem in problems:
        raise ValueError(str(problem))


def exactly(record: Mapping[str, Any], names: Iterable[str]) -> Iterator[Problem]:
    """No fields but these, for formats that allow none."""
    wanted = set(names)
    for name in record:
        if name not in wanted:
            yield Problem(name, f"the format has no such field; it has {', '.join(sorted(wanted))}")


def text(
    record: Mapping[str, Any], name: str, at: str = "", *, empty: bool = True
) -> Iterator[Problem]:
    """A field that is a string every database can hold."""
    path = f"{at}.{name}" if at else name
    if name not in record:
        yield Problem(path, "is missing")
    else:
        yield from string(record[name], path, empty=empty)


def string(value: object, path: str, *, empty: bool = True) -> Iterator[Problem]:
    """A value that is a string every database can hold."""
    if not isinstance(value, str):
        yield Problem(path, f"must be a string, not {kind(value)}")
        return
    try:
        check_text(value, "it")
    except ValueError as error:
        yield Problem(path, str(error))
    if not empty and not value.strip():
        yield Problem(path, "is empty")


def messages(
    record: Mapping[str, Any], name: str, at: str = "", *, last: str = "user"
) -> Iterator[Problem]:
    """A field that is a conversation: role and content each, the last one by `last`."""
    path = f"{at}.{name}" if at else name
    if name not in record:
        yield Problem(path, "is missing")
        return
    value = record[name]
    if not isinstance(value, list):
        yield Problem(path, f"must be a list of messages, not {kind(value)}")
        return
    if not value:
        yield Problem(path, "has no messages")
        return
    found = [problem for n, one in enumerate(value) for problem in message(one, f"{path}[{n}]")]
    yield from found
    if not found and value[-1]["role"] != last:
        yield Problem(
            f"{path}[{len(value) - 1}].role", f"must be {last}, not {value[-1]['role']!r}"
        )


def message(value: Any, path: str) -> Iterator[Problem]:
    """One message of text. The last one may be empty: an answer may be."""
    if not isinstance(value, Mapping):
        yield Problem(path, f"must be an object with role and content, not {kind(value)}")
        return
    role = value.get("role")
    if role not in ROLES:
        yield Problem(f"{path}.role", f"must be one of {', '.join(ROLES)}, not {role!r}")
    if value.get("tool_calls"):
        yield Problem(f"{path}.tool_calls", "calls of tools are not taken")
    yield from text(value, "content", path, empty=role == "assistant")


def answer(record: Mapping[str, Any], name: str, at: str = "") -> Iterator[Problem]:
    """A field that is one assistant message in a list."""
    path = f"{at}.{name}" if at else name
    problems = list(messages(record, name, at, last="assistant"))
    yield from problems
    if not problems and len(record[name]) != 1:
        yield Problem(path, f"must be one assistant message, not {len(record[name])}")


def storable(record: Mapping[str, Any]) -> Iterator[Problem]:
    """No text anywhere in the line that a database refuses, names included."""
    waiting: list[tuple[str, Any]] = [(str(name), value) for name, value in record.items()]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield from string(value, path)
        elif isinstance(value, list):
            waiting += [(f"{path}[{n}]", one) for n, one in enumerate(value)]
        elif isinstance(value, Mapping):
            for name, one in value.items():
                yield from string(name, f"{path}, a name in it")
                waiting.append((f"{path}.{name}", one))


def whole(
    record: Mapping[str, Any], name: str, least: int = 0, *, optional: bool = False
) -> Iterator[Problem]:
    """A field that is a whole number from `least` up to what a database holds."""
    value = record.get(name)
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        yield Problem(name, f"must be a whole number from {least} on, not {value!r}")


def one_of(record: Mapping[str, Any], name: str, choices: Sequence[object]) -> Iterator[Problem]:
    value = record.get(name)
    # True is no 1: JSON tells them apart, and so do we.
    if not any(value == one and type(value) is type(one) for one in choices):
        listed = ", ".join("null" if one is None else str(one) for one in choices)
        yield Problem(name, f"must be one of {listed}, not {value!r}")


def kind(value: object) -> str:
    """A JSON value's type in the words of JSON."""
    names = {type(None): "null", bool: "true or false", str: "a string", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else "a number")
