"""The first half of an import: read and check the whole file before the database sees any of it.

Checked rows wait in a private temporary SQLite database, which lives on disk when it grows and is
gone with the process. Rows equal in everything are kept once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from plumbline.transfer.checks import Problem
from plumbline.transfer.formats import Format, problems
from plumbline.transfer.lines import Lines
from plumbline.transfer.rows import Answer, Asked, ImportedRow, Vote, digest

SHOWN_ERRORS = 20
Finding = tuple[int, Problem]  # with the number of the line


class BadFile(ValueError):
    """The file has errors, so nothing of it is imported. The message shows the first ones."""

    def __init__(self, errors: list[str], total: int) -> None:
        self.errors, self.total = errors, total
        more = [f"... and {total - len(errors)} more"] if total > len(errors) else []
        super().__init__("\n".join([f"{total} bad rows; nothing was imported", *errors, *more]))


class Staged:
    """The rows of a file that were found good, and what is wrong with the others; a context
    manager. `whole`: the file was read as far as was asked for."""

    def __init__(self) -> None:
        self._store = sqlite3.connect("", isolation_level=None)  # "": private, temporary
        self._store.execute(
            "CREATE TABLE staged (key TEXT PRIMARY KEY, claim TEXT UNIQUE, body TEXT)"
        )
        self._store.execute("BEGIN")
        self.rows = 0
        self.duplicates = 0
        self.bad = 0
        self.findings: list[Finding] = []  # the first ones
        self.whole = True
        self.sha256 = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._store.close()

    def __len__(self) -> int:
        """Distinct rows."""
        return self.rows - self.duplicates

    def add(self, row: ImportedRow) -> None:
        """Keep a row. Raises ValueError for one that contradicts an earlier one."""
        body = json.dumps(_body(row))
        key = hashlib.sha256(body.encode()).hexdigest()
        try:
            new = self._store.execute(
                "INSERT INTO staged VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (key, row.claim, body),
            )
        except sqlite3.IntegrityError:
            assert row.vote is not None
            raise ValueError(
                f"{row.vote.annotator!r} says something else in revision {row.vote.revision} on "
                "this comparison than in an earlier row"
            ) from None
        self.rows += 1
        self.duplicates += 1 - new.rowcount

    def chunks(self, size: int) -> Iterator[list[tuple[str, ImportedRow]]]:
        """(key, row) in the file's order, at most `size` at a time."""
        rows = self._store.execute("SELECT key, body FROM staged ORDER BY rowid")
        while chunk := list(islice(rows, size)):
            yield [(key, _row(json.loads(body))) for key, body in chunk]


def stage(
    path: Path,
    format: Format,
    limit: int | None = None,
    advanced: Callable[[int], object] = lambda n: None,
    *,
    leave_out: bool = False,
    most: int | None = None,
) -> Staged:
    """Read all of `path`, or its first `limit` rows. Raises BadFile naming the rows with errors;
    with `leave_out` only for a file that cannot be read to its end or holds nothing good."""
    staged = read(path, format, limit, advanced, most=most)
    if not staged.bad and not staged.rows:
        staged.bad, staged.findings = 1, [(1, Problem("", "the file has no rows"))]
    if staged.bad and not (leave_out and staged.whole and staged.rows):
        staged.__exit__(None, None, None)
        first: dict[int, str] = {}
        for number, problem in staged.findings:
            first.setdefault(number, f"row {number}: {problem}")
        raise BadFile(list(first.values())[:SHOWN_ERRORS], staged.bad)
    return staged


def read(
    path: Path,
    format: Format,
    limit: int | None = None,
    advanced: Callable[[int], object] = lambda n: None,
    *,
    most: int | None = None,
    shown: int = SHOWN_ERRORS,
) -> Staged:
    """Read all of `path`, or its first `limit` rows, or `most` bytes; the good rows are kept, and
    what is wrong with the first `shown` others."""
    staged = Staged()
    lines = Lines(path, advanced, most)
    taken = 0
    for number, record in islice(lines, limit):
        taken += 1
        try:
            if isinstance(record, str):
                raise ValueError(record)
            staged.add(format.parse(record))
        except ValueError as error:
            staged.bad += 1
            if staged.bad <= shown:
                told = [] if isinstance(record, str) else list(problems(format, record))
                staged.findings += [(number, one) for one in told or [Problem("", str(error))]]
    staged.whole = lines.whole or taken == limit
    staged.sha256 = lines.sha256
    return staged


def in_heldout(messages_digest: str, fraction: float) -> bool:
    """Whether a prompt falls into the held-out split: by its digest, so always the same way."""
    return int(messages_digest[8:16], 16) < fraction * 2**32


def split_of(row: ImportedRow, heldout: float) -> str:
    return row.split or ("heldout" if in_heldout(digest(row.messages), heldout) else "train")


def _body(row: ImportedRow) -> dict[str, Any]:
    """The row as JSON. What a source says nothing of is left out, so that a row keeps its key, and
    is known again, when rows learn to hold more."""
    body = asdict(row)
    if row.vote is None:
        del body["vote"]
    for answer in body["answers"]:
        for name in ("key", "finish_reason", "sampling"):
            if not answer[name]:
                del answer[name]
    return body


def _row(body: dict[str, Any]) -> ImportedRow:
    vote = body.get("vote")
    if vote is not None:
        vote = Vote(**{**vote, "asked": Asked(**vote["asked"])})
    return ImportedRow(
        **{
            **body,
            "messages": tuple(body["messages"]),
            "answers": tuple(Answer(**answer) for answer in body["answers"]),
            "vote": vote,
        }
    )
