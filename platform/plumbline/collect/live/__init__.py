"""Live pairs: two answers that policies write while a person reads, who may judge early.

The gateway writes them into their rows (`plumbline.gateway.live`); pages show how far they are.
This is the front; a file for each part lies behind it.
"""

from __future__ import annotations

from plumbline.collect.live.answers import (
    Side,
    again,
    cast,
    flag,
    seen,
    sides,
    skip,
    unfinished,
    whole,
)
from plumbline.collect.live.settings import of
from plumbline.collect.live.starting import begin, prompts_left, write, writes, written

__all__ = [
    "Side",
    "again",
    "begin",
    "cast",
    "flag",
    "of",
    "prompts_left",
    "seen",
    "sides",
    "skip",
    "unfinished",
    "whole",
    "write",
    "writes",
    "written",
]
