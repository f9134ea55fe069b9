"""What differs between two reward programs, as rows that a page or a prompt can show.

A pure function of the two: the code as a unified diff, the rubric by criterion, the params as a
table. What is the same in both is left out, but for the lines around a change of the code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from align.programs import Criterion, RewardProgram

Change = Literal["added", "removed", "changed"]
CONTEXT = 3  # lines of code around a change


@dataclass(frozen=True)
class Line:
    """Of the code. `old` and `new` are its numbers in either program, None where it is not there;
    `kind` "gap" is a place where equal lines are left out."""

    kind: Literal["same", "added", "removed", "gap"]
    text: str
    old: int | None
    new: int | None

    @property
    def sign(self) -> str:
        return {"added": "+", "removed": "-", "same": " ", "gap": "…"}[self.kind]


@dataclass(frozen=True)
class CriterionChange:
    """`fields` are what changed of a criterion: name, before and after."""

    id: str
    change: Change
    fields: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class ParamChange:
    name: str
    change: Change
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Difference:
    kind: tuple[str, str] | None
    code: tuple[Line, ...]
    rubric: tuple[CriterionChange, ...]
    params: tuple[ParamChange, ...]

    def __bool__(self) -> bool:
        return bool(self.kind or self.code or self.rubric or self.params)


def difference(old: RewardProgram, new: RewardProgram) -> Difference:
    return Difference(
        kind=None if old.kind == new.kind else (old.kind, new.kind),
        code=tuple(_code(old.code, new.code)),
        rubric=tuple(_rubric(old.rubric, new.rubric)),
        params=tuple(_params(old, new)),
    )


def as_text(found: Difference) -> str:
    """The same for a prompt: unified diff of the code, one line a change of the rest; "" where
    nothing differs."""
    parts = [] if found.kind is None else [f"kind: {found.kind[0]} -> {found.kind[1]}"]
    if found.code:
        parts.append("\n".join(f"{line.sign}{line.text}".rstrip() for line in found.code))
    for one in found.rubric:
        if one.change != "changed":
            parts.append(f"criterion {one.id} {one.change}")
        parts += [f"criterion {one.id}, {name}: {a!r} -> {b!r}" for name, a, b in one.fields]
    for param in found.params:
        before = "none" if param.before is None else f"{param.before:g}"
        after = "none" if param.after is None else f"{param.after:g}"
        parts.append(f"param {param.name}: {before} -> {after}")
    return "\n".join(parts)


def _code(old: str, new: str) -> Iterator[Line]:
    before, after = old.splitlines(), new.splitlines()
    groups = difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(
        CONTEXT
    )
    end = 0
    for group in groups:
        if group[0][1] > end:
            yield Line("gap", "", None, None)
        for tag, a, b, c, d in group:
            if tag == "equal":
                for place in range(b - a):
                    yield Line("same", before[a + place], a + place + 1, c + place + 1)
                continue
            for place in range(a, b):
                yield Line("removed", before[place], place + 1, None)
            for place in range(c, d):
                yield Line("added", after[place], None, place + 1)
        end = group[-1][2]
    if end and end < len(before):
        yield Line("gap", "", None, None)


def _rubric(old: tuple[Criterion, ...], new: tuple[Criterion, ...]) -> Iterator[CriterionChange]:
    before = {one.id: one for one in old}
    after = {one.id: one for one in new}
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        fields = tuple(_fields(one, other))
        if one is None or other is None:
            yield CriterionChange(name, "added" if one is None else "removed", fields)
        elif fields:
            yield CriterionChange(name, "changed", fields)


def _fields(one: Criterion | None, other: Criterion | None) -> Iterator[tuple[str, str, str]]:
    before, after = _flat(one), _flat(other)
    for name in sorted({*before, *after}):
        if before.get(name, "") != after.get(name, ""):
            yield name, before.get(name, ""), after.get(name, "")


def _flat(criterion: Criterion | None) -> dict[str, str]:
    if criterion is None:
        return {}
    anchors = {f"anchor {level}": criterion.anchors[level] for level in sorted(criterion.anchors)}
    return {"question": criterion.question, **anchors, "weight": f"{criterion.weight:g}"}


def _params(old: RewardProgram, new: RewardProgram) -> Iterator[ParamChange]:
    for name in [*old.params, *(name for name in new.params if name not in old.params)]:
        before, after = old.params.get(name), new.params.get(name)
        if before == after:
            continue
        change: Change = "changed"
        if before is None or after is None:
            change = "added" if before is None else "removed"
        yield ParamChange(name, change, before, after)
