"""What differs between two versions' settings, setting by setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

LONG = 60  # characters from which a text is compared line by line
CONTEXT = 2


@dataclass(frozen=True)
class Change:
    """`lines`: of a long text, (sign, text) with "+", "-" and " "; else `before` and `after`."""

    name: str
    before: Any = None
    after: Any = None
    lines: list[tuple[str, str]] = field(default_factory=list)


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Settings that are not the same; None stands for one that is not there."""
    old, new = dict(_settings(before)), dict(_settings(after))
    names = [*old, *(name for name in new if name not in old)]
    return [
        _change(name, old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]


def flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of each setting, those inside others by both names. Rows of a list are named by
    their id where they have one, so that a moved row is no change."""
    for name, value in settings.items():
        called = f"{above} {name.replace('_', ' ')}".strip()
        if isinstance(value, Mapping):
            yield from flat(value, called)
        elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value):
                row = {key: inner for key, inner in one.items() if key != "id"}
                yield from flat(row, f"{called} {one.get('id', number + 1)}")
        else:
            yield called, value


def _settings(version: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A version's settings, its knobs beside the rest."""
    yield from flat(version.get("knobs", {}))
    yield from flat({name: value for name, value in version.items() if name != "knobs"})


def _change(name: str, before: Any, after: Any) -> Change:
    texts = [one for one in (before, after) if isinstance(one, str)]
    if not any(len(one) > LONG or "\n" in one for one in texts):
        return Change(name, before, after)
    compared = difflib.unified_diff(
        str(before or "").splitlines(), str(after or "").splitlines(), lineterm="", n=CONTEXT
    )
    lines = [
        (one[0], one[1:])
        for one in compared
        if one[:2] not in ("--", "++", "@@") or one[2:3] not in "-+ "
    ]
    return Change(name, before, after, lines)
