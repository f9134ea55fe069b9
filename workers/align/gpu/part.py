"""A run inside a run: one of several trainings that a job is made of, a member's or a fold's.

It works in a folder of the whole's, where it goes on if it is killed, tells the whole how far it
is, and stops when that is told to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align.run import Run


class Part(Run):
    """what: "member" or "fold"; its number counts from 0."""

    def __init__(self, whole: Run, folder: Path, what: str, number: int) -> None:
        super().__init__(folder, silent=whole.silent)
        self.whole = whole
        self.what = what
        self.number = number

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.stopping = self.whole.stopping
        super().metrics(step, values)
        self.whole.metrics(step, {f"{self.what} {self.number}/{k}": v for k, v in values.items()})

    def progress(self, done: int, total: int, unit: str, *, tokens: int | None = None) -> None:
        self.stopping = self.whole.stopping
        super().progress(done, total, unit, tokens=tokens)
        self.whole.progress(done, total, f"{unit} of {self.what} {self.number + 1}", tokens=tokens)

    def check(self) -> None:
        self.stopping = self.whole.stopping
        super().check()
