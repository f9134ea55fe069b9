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


@dataclass
class Checked:
    """What a validator found in a file: `problems` are the first ones, by number of the line."""

    lines: int = 0
    wrong: int = 0
    problems: list[tuple[int, Problem]] = field(default_factory=list)
    whole: bool = True  # the file was read to its end


class _Enough(Exception):
    pass


def validate(path: Path, format: Format, shown: int, most: int | None = None) -> Checked:
    """Check each line, or each of the first `most`, against a format. Keeps `shown` problems."""
    checked, read = Checked(), 0

    def count(_: int) -> None:
        nonlocal read
        read += 1
        if most is not None and read > most:  # blank lines, of which a small file may hold many
            raise _Enough

    try:
        for number, record in Lines(path, count):
            if isinstance(record, str):
                found = [Problem("", record)]
            else:
                found = list(problems(format, record))
            checked.lines += 1
            checked.wrong += bool(found)
            room = max(0, shown - len(checked.problems))
            checked.problems += [(number, problem) for problem in found[:room]]
    except _Enough:
        checked.whole = False
    return checked
