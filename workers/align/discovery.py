"""One file per variant: each module of a package defines one class of a family, found by name."""

from __future__ import annotations

import inspect
import pkgutil
from functools import cache
from importlib import import_module
from typing import Any, TypeVar, cast

T = TypeVar("T")


def discover(package: str, family: type[T]) -> dict[str, type[T]]:
    """Classes by file name, in alphabetical order. A file with no class of the family, or with
    two, is a mistake of its author and fails here."""
    return dict(_discover(package, cast(Any, family)))


def find(package: str, family: type[T], name: str) -> type[T]:
    """The class behind a name. Raises ValueError listing what there is."""
    found = discover(package, family)
    if name not in found:
        raise ValueError(f"no {family.__name__.lower()} {name!r}; there are {', '.join(found)}")
    return found[name]


@cache
def _discover(package: str, family: type[Any]) -> tuple[tuple[str, type[Any]], ...]:
    found = []
    folder = import_module(package).__path__
    for module in sorted(pkgutil.iter_modules(folder), key=lambda module: module.name):
        source = import_module(f"{package}.{module.name}")
        classes = [
            cls
            for _, cls in inspect.getmembers(source, inspect.isclass)
            if issubclass(cls, family) and cls.__module__ == source.__name__
        ]
        if len(classes) != 1:
            raise ImportError(f"{source.__name__} must define one {family.__name__}")
        found.append((module.name, classes[0]))
    return tuple(found)
