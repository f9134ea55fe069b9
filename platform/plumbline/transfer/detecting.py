"""Which format a file is in, by its first lines, and what speaks for it.

Every format is asked to read the lines. Of those that can, the one that knows most of the fields
wins; where two know as many, the file reads the same in both and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from plumbline.transfer import formats
from plumbline.transfer.lines import GZIP, Lines

LOOKED_AT, BYTES = 50, 8 << 20  # of a file, at most
ENOUGH, MANY = 0.5, 0.8  # of the lines must be in the format, and for certainty
OTHER = {
    b"PAR1": "It is a Parquet file. Save it as JSON lines first.",
    b"PK\x03\x04": "It is a zip archive. Unpack it, and give the files in it.",
    b"\x28\xb5\x2f\xfd": "It is compressed with zstd. Give it plain or gzipped.",
    b"BZh": "It is compressed with bzip2. Give it plain or gzipped.",
    b"\xfd7zXZ": "It is compressed with xz. Give it plain or gzipped.",
}


@dataclass(frozen=True)
class Guess:
    """format: "" when there is none. sure: it reads almost all lines, and none does as well."""

    format: str
    sure: bool
    reasons: list[str]


@dataclass
class _Fit:
    """How a format gets on with the lines."""

    name: str
    known: int  # fields of the lines that it has a place for, all lines together
    good: int = 0
    trouble: str = ""  # what the first line it cannot read has


def detect(path: Path) -> Guess:
    """Look at the beginning of a file."""
    if sentence := _other(path):
        return Guess("", False, [sentence])
    found = list(islice(Lines(path, most=BYTES), LOOKED_AT))
    rows = [record for _, record in found if not isinstance(record, str)]
    if not rows:
        said = f"Line {found[0][0]}: {found[0][1]}." if found else "It has no lines."
        return Guess("", False, ["Its first lines are not JSON objects.", said])
    fits = [_fit(name, rows) for name in formats.names()]
    enough = ENOUGH * len(rows)
    fits.sort(key=lambda one: (one.good < enough, -one.known, -one.good, one.name))
    best = fits[0]
    if best.good < enough:
        near = max(fits, key=lambda one: one.known)
        names = ", ".join(sorted({str(name) for row in rows for name in row})[:12])
        reasons = [f"No format reads its first lines, which have the fields {names}."]
        if near.known:
            reasons.append(f"{title(near.name)} comes nearest; {near.trouble}.")
        return Guess("", False, reasons)
    return _chosen(best, fits[1:], rows)


def title(name: str) -> str:
    """A format's name for people."""
    return formats.find(name).TITLE


def _chosen(best: _Fit, others: list[_Fit], rows: list[Mapping[str, Any]]) -> Guess:
    many = "its first line" if len(rows) == 1 else f"{best.good} of its first {len(rows)} lines"
    reasons = [f"{title(best.name)} reads {many}."]
    rivals = [one for one in others if one.good >= best.good]
    equal = [title(one.name) for one in rivals if one.known == best.known]
    if equal:
        reasons.append(f"So does {' and '.join(equal)}, which knows the same fields.")
    for one in rivals:
        if one.known < best.known:
            reasons.append(f"{title(one.name)} would read it too, but drop some of its fields.")
    if best.good < MANY * len(rows):
        reasons.append(f"The others do not fit; {best.trouble}.")
    return Guess(best.name, not equal and best.good >= MANY * len(rows), reasons)


def _fit(name: str, rows: list[Mapping[str, Any]]) -> _Fit:
    format = formats.find(name)
    fit = _Fit(name, sum(field in format.FIELDS for row in rows for field in row))
    for number, row in enumerate(rows, 1):
        problem = next(formats.problems(format, row), None)
        if problem is None:
            fit.good += 1
        elif not fit.trouble:
            fit.trouble = f"in row {number} {problem}"
    return fit


def _other(path: Path) -> str:
    """What a file is that is certainly not JSON lines; "" otherwise."""
    with path.open("rb") as file:
        start = file.read(64)
    for magic, sentence in OTHER.items():
        if start.startswith(magic):
            return sentence
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text and not start.startswith(GZIP):
        return "It is empty."
    if text.startswith(b"["):
        return "It is one JSON array. Give one object a line (jq -c '.[]' makes it so)."
    return ""
