"""Votes cast faster than the answers can be read: flagged for a look, never refused.

Words are counted as six characters each, the space included, which serves languages that put no
spaces between words and lets the database measure the texts.
"""

from __future__ import annotations

from plumbline.collect.quality.settings import Quality

CHARACTERS_A_WORD = 6


def floor(characters: int, quality: Quality) -> float:
    """The least time in seconds that reading answers of so many characters takes."""
    return max(quality.seconds_least, quality.seconds_a_word * characters / CHARACTERS_A_WORD)


def pace(quality: Quality) -> str:
    """The floor as the page's script takes it: seconds at least, and seconds a word; "" where
    nobody is told."""
    return f"{quality.seconds_least} {quality.seconds_a_word}" if quality.warn_fast else ""


def too_fast(active_ms: int | None, characters: int, quality: Quality) -> bool:
    """Whether a vote came too early. One whose time nobody measured did not."""
    return active_ms is not None and active_ms / 1000 < floor(characters, quality)
