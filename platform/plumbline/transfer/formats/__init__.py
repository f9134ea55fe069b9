"""One file per format, found by name.

A format is a module that reads, and most also write:

- TITLE for people, SOURCE and LICENCE, what a new prompt set is labelled with ("" where the file
  does not tell), FIELDS, the names in a line that it reads, by which it is known, and
  `parse(record)`, which turns one JSON object of the file into an ImportedRow or raises ValueError
  with a sentence about what is wrong with it;
- ABOUT for people, TAKES (the options it has a place for), TIES (the rules for ties it can
  express, of those) and `rows(item, export)`, which yields the JSON objects that a comparison's
  votes become and counts in `export.left` what becomes none;
- `check(record)`, which yields a Problem for each field that is wrong. Without one, what `parse`
  says is the problem of the line.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from plumbline.transfer.checks import Problem
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import ImportedRow

Row = dict[str, Any]


class Format(Protocol):
    TITLE: str
    SOURCE: str
    LICENCE: str
    FIELDS: tuple[str, ...]

    def parse(self, record: Mapping[str, Any]) -> ImportedRow: ...


class Exporter(Format, Protocol):
    ABOUT: str
    TAKES: tuple[str, ...]
    TIES: tuple[str, ...]

    def rows(self, item: Item, export: Export) -> Iterator[Row]: ...

    def check(self, record: Mapping[str, Any]) -> Iterator[Problem]: ...


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Format:
    """The format of that name. Raises ValueError listing what there is."""
    if name not in names():
        raise ValueError(f"no format {name!r}; there are {', '.join(names())}")
    return cast(Format, import_module(f"{__name__}.{name}"))


def titles() -> list[tuple[str, str]]:
    """(name, title) of all, to choose from; those that are written as well come first."""
    written = exporters()
    order = [*written, *(name for name in names() if name not in written)]
    return [(name, find(name).TITLE) for name in order]


def exporters() -> dict[str, Exporter]:
    """The formats that votes can leave in, by name."""
    found = {name: find(name) for name in names()}
    return {name: cast(Exporter, one) for name, one in found.items() if hasattr(one, "rows")}


def exporter(name: str) -> Exporter:
    """A format to write. Raises ValueError listing what there is."""
    found = exporters()
    if name not in found:
        raise ValueError(f"no format {name!r} to write; there are {', '.join(found)}")
    return found[name]


def problems(format: Format, record: Mapping[str, Any]) -> Iterator[Problem]:
    """All that is wrong with a line."""
    found = list(cast(Exporter, format).check(record)) if hasattr(format, "check") else []
    yield from found
    if not found:
        try:
            format.parse(record)
        except ValueError as error:
            yield Problem("", str(error))
