"""What a job has done so far, durable piece by piece, so that a killed one does nothing twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO


class Kept:
    """Rows by their "key", one a line of a file; a context manager around its open end. A key that
    is added again replaces the row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self._out: TextIO | None = None

    def __enter__(self) -> Self:
        """Read what an earlier attempt left; a line that was being written when it died goes."""
        good = 0
        if self.path.is_file():
            for line in self.path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                row = json.loads(line)
                self.rows[row["key"]] = row
                good += len(line)
        self._out = self.path.open("a", encoding="utf-8")
        self._out.truncate(good)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._out is not None
        self._out.close()

    def add(self, row: Mapping[str, Any]) -> None:
        assert self._out is not None
        self._out.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._out.flush()
        os.fsync(self._out.fileno())
        self.rows[row["key"]] = dict(row)
