"""One file per format, found by name.

A format is a module with SOURCE and LICENCE (what a new prompt set is labelled with; "" where the
file does not tell) and `parse(record)`, which turns one JSON object of the file into an
ImportedRow or raises ValueError with a sentence about what is wrong with it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from plumbline.transfer.rows import ImportedRow


class Format(Protocol):
    SOURCE: str
    LICENCE: str

    def parse(self, record: Mapping[str, Any]) -> ImportedRow: ...


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Format:
    """The format of that name. Raises ValueError listing what there is."""
    if name not in names():
        raise ValueError(f"no format {name!r}; there are {', '.join(names())}")
    return cast(Format, import_module(f"{__name__}.{name}"))
