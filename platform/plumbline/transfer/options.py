"""What a researcher chooses of an export: which votes leave, and by which rules they become rows.

Fields' metadata holds what the page and the command say of them. A format names the options that it
has a place for, in TAKES; the others must stay at their defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

CONVERSATIONAL, STANDARD = "conversational", "standard"
SKIP, HALF, BOTH = "skip", "half", "both"
EACH, MAJORITY = "each", "majority"
TRAIN, HELDOUT, ALL = "train", "heldout", "all"


def choice(default: str, label: str, choices: Mapping[str, str], help: str = "") -> Any:
    about = {"label": label, "choices": dict(choices), "help": help}
    return field(default=default, metadata=about)


def switch(default: bool, label: str, help: str = "") -> Any:
    return field(default=default, metadata={"label": label, "help": help})


@dataclass(frozen=True)
class Options:
    split: str = choice(
        TRAIN,
        "Prompts",
        {TRAIN: "For training", HELDOUT: "Held out", ALL: "All"},
        "Rounds are evaluated on held-out prompts: train on none of them.",
    )
    layout: str = choice(
        CONVERSATIONAL,
        "Layout",
        {CONVERSATIONAL: "Conversational (messages)", STANDARD: "Standard (plain text)"},
        "Plain text marks the turns as HH-RLHF does.",
    )
    votes: str = choice(
        EACH,
        "Several votes on one comparison",
        {EACH: "One row each", MAJORITY: "The majority's row"},
    )
    ties: str = choice(
        SKIP,
        "Ties",
        {
            SKIP: "Leave them out",
            HALF: "Both ways round, at half the weight",
            BOTH: "Both answers are good",
        },
    )
    pairs: bool = switch(
        False,
        "Learn from the order as well",
        "Where a vote holds no absolute mark: the best answer is good, the worst is not.",
    )
    corrections: bool = switch(
        False,
        "Learn from corrections as well",
        "A corrected text is better than the answer that it corrects.",
    )
    extras: bool = switch(
        True,
        "Weight and vote beside the format's own columns",
        "TRL leaves them alone; a ranking's pairs weigh as one vote together.",
    )
    revisions: bool = switch(
        False,
        "Everything that was said",
        "Skips, flags and replaced votes too, not only what stands.",
    )
    quality: bool = switch(
        False, "Gold, repeats and training comparisons", "For studying quality, never for training."
    )
    names: bool = switch(
        False, "User names of annotators", "Else a name made up for each, the same in every export."
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if "choices" in one.metadata and value not in one.metadata["choices"]:
                listed = ", ".join(one.metadata["choices"])
                raise ValueError(f"{one.name} is one of {listed}, not {value!r}")

    def check(self, takes: Iterable[str], ties: Iterable[str], name: str) -> None:
        """Raises ValueError for what the format called `name` has no place for."""
        for one in fields(self):
            if one.name not in ("split", *takes) and getattr(self, one.name) != one.default:
                raise ValueError(f"{name} has no place for the option {one.name!r}")
        if "ties" in takes and self.ties not in ties:
            raise ValueError(f"ties in {name} are one of {', '.join(ties)}, not {self.ties!r}")
