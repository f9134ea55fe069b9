"""An export as lines, one at a time; what a page shows of it first; and a file's problems.

Every line has passed its format's own validator, so a file that was downloaded is never refused for
its shape. Nothing holds more than a page of comparisons.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plumbline.transfer.checks import Problem
from plumbline.transfer.formats import Exporter, Format, problems
from plumbline.transfer.lines import Lines
from plumbline.transfer.outgoing import Export

MOST_COUNTED = 2000  # comparisons that a preview goes through
MOST_TOTAL = 100_000  # and that it counts, so that the page is quick however many there are
SHOWN_ROWS = 3
# Some readers take these for the ends of lines; in JSON they may stand as escapes.
ENDINGS = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}


@dataclass
class Preview:
    """The first rows of an export, how many there are, and what is left out and why."""

    shown: list[Mapping[str, Any]] = field(default_factory=list)
    rows: int = 0
    left: list[tuple[str, int]] = field(default_factory=list)  # most first
    counted: int = 0  # comparisons that were gone through
    total: int = 0  # comparisons with anything said on them, up to MOST_TOTAL

    @property
    def many(self) -> bool:
        """There may be more than `total`."""
        return self.total >= MOST_TOTAL


def rows(export: Export, format: Exporter, most: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of an export, of at most the first `most` comparisons."""
    for item in export.items(most):
        for row in format.rows(item, export):
            problem = next(format.check(row), None)
            if problem is None:
                yield row
            else:
                export.left[f"rows that the format refuses: {problem}"] += 1


def lines(export: Export, format: Exporter) -> Iterator[str]:
    """The rows as JSON lines."""
    for row in rows(export, format):
        yield line(row)


def line(row: Mapping[str, Any]) -> str:
    """One JSON object on one line, whatever a reader takes for the end of one."""
    return json.dumps(row, ensure_ascii=False).translate(ENDINGS) + "\n"


def pretty(row: Mapping[str, Any]) -> str:
    """A row to be read by a person: a field to a line."""
    fields = (f"{json.dumps(name)}: {json.dumps(row[name], ensure_ascii=False)}" for name in row)
    return "{" + ",\n ".join(fields) + "}"


def preview(export: Export, format: Exporter) -> Preview:
    """Goes through the first comparisons and counts."""
    found = Preview(total=export.total(MOST_TOTAL))
    for row in rows(export, format, MOST_COUNTED):
        found.rows += 1
        if len(found.shown) < SHOWN_ROWS:
            found.shown.append(row)
    found.counted = export.seen
    found.left = export.left.most_common()
    return found


def validate(path: Path, format: Format) -> Iterator[tuple[int, Problem | None]]:
    """Each line's number with each of its problems, or with None when it has none."""
    for number, record in Lines(path):
        if isinstance(record, str):
            yield number, Problem("", record)
            continue
        found: list[Problem | None] = list(problems(format, record))
        yield from ((number, problem) for problem in found or [None])


def first_problems(
    path: Path, format: Format, most: int
) -> tuple[int, int, list[tuple[int, Problem]]]:
    """How many lines a file has, how many of them are wrong, and the first problems."""
    total = wrong = last = 0
    shown: list[tuple[int, Problem]] = []
    for number, problem in validate(path, format):
        if number != last:
            total += 1
            wrong += problem is not None
            last = number
        if problem is not None and len(shown) < most:
            shown.append((number, problem))
    return total, wrong, shown
