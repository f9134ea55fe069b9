"""What a check of `manage.py verify` is, and what it finds.

A check compares what the database says with what is there: files, other rows, engines. It changes
nothing. Each is a file in `checks/`, found by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

MOST = 100  # findings of one check that are told; how many more there are is counted


@dataclass(frozen=True)
class Finding:
    """Something that is not as the database says. `about` names the row, file or engine."""

    check: str
    about: str
    sentence: str
    remedy: str = ""

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Check:
    """`look` yields what is wrong and counts in `seen` what it looked at."""

    title: ClassVar[str]  # what holds where nothing is found, in a sentence
    needs_engines: ClassVar[bool] = False

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick  # without reading files to their end
        self.seen = 0

    def look(self) -> Iterator[Finding]:
        raise NotImplementedError

    def found(self, about: object, sentence: str, remedy: str = "") -> Finding:
        name = type(self).__module__.rpartition(".")[2]
        return Finding(name, str(about), sentence, remedy)
