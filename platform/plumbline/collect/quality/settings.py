"""A campaign's quality settings: how often people are tested, and when a rule speaks up.

Kept as JSON on the campaign; an empty one means the defaults, which are on from the first vote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from plumbline.collect.models import Campaign


@dataclass(frozen=True)
class Quality:
    """Shares are of what a person is asked; planted duplicates are gold that should be a tie."""

    gold_start: float = 0.10  # share of gold for a person's first answers,
    gold_end: float = 0.03  # falling evenly to this one
    gold_over: int = 200  # over so many answers
    repeat_share: float = 0.03  # own earlier votes asked again, sides swapped
    repeat_gap: int = 10  # answers at least between a vote and its repeat
    seconds_least: float = 2.0  # faster than this, or than
    seconds_a_word: float = 0.05  # this for each word of the answers, is flagged and never refused
    warn_fast: bool = True  # whether the page says so, now and then, to who voted that fast
    pause: bool = True  # whether the rule pauses by itself, or only says so
    pause_accuracy: float = 0.7  # pause when accuracy on gold is below this
    pause_certainty: float = 0.95  # with more than this probability
    prior_right: int = 4  # the Beta prior of an accuracy: answers taken as seen before the first
    prior_wrong: int = 1
    ask_flagged: bool = False  # whether others are asked what somebody flagged, before a look at it
    hourly_cap: int = 0  # votes that one person may give within an hour; 0: as many as they like
    daily_cap: int = 0  # and within a day
    left_bias: float = 0.2  # log-odds of the left side that raise an alert, when surely not zero

    def __post_init__(self) -> None:
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            if isinstance(value, bool) != (wanted is bool) or not isinstance(value, int | float):
                raise ValueError(f"{_words(field.name)}: {value!r} is not what is asked here.")
            if wanted is int and not isinstance(value, int):
                raise ValueError(f"{_words(field.name)} is a whole number, not {value!r}.")
        for name in ("gold_start", "gold_end", "repeat_share"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ValueError(f"{_words(name)}: a share between 0 and a half of what is asked.")
        if self.gold_end > self.gold_start:
            raise ValueError("The share of gold falls: it cannot end above its start.")
        for name in ("gold_over", "repeat_gap", "prior_right", "prior_wrong"):
            if getattr(self, name) < 1:
                raise ValueError(f"{_words(name)} is at least 1.")
        for name in ("pause_accuracy", "pause_certainty"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{_words(name)} lies between 0 and 1.")
        for name in ("seconds_least", "seconds_a_word", "left_bias", "hourly_cap", "daily_cap"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{_words(name)} cannot be negative.")


def of(campaign: Campaign) -> Quality:
    """The campaign's settings. Raises ValueError with a sentence for ones that cannot be."""
    return _read(json.dumps(campaign.quality))


@lru_cache(maxsize=256)
def _read(values: str) -> Quality:
    """Each vote asks for the same ones several times. By their text: 1 is no `true`."""
    return read(json.loads(values))


def read(values: Mapping[str, Any]) -> Quality:
    """Settings from JSON; what is not given has its default. Raises ValueError."""
    if unknown := values.keys() - {field.name for field in fields(Quality)}:
        raise ValueError(f"There is no quality setting called {', '.join(sorted(unknown))}.")
    return Quality(**values)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
