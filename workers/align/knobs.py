"""Hyper-parameters declared once: a `knob` is a dataclass field with help, bounds and choices.

Algorithms and reward-model objectives are `Declared` classes. The launch form, its validation,
its help text, the JSON stored with a round and the docs are all derived from the same fields.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self


def knob(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a hyper-parameter: its default is the vetted setting, its bounds become validation,
    its help text becomes the form's. The type is the default's."""
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "above": above,
            "below": below,
            "at_least": at_least,
            "at_most": at_most,
            "choices": choices,
        },
    )


@dataclass(frozen=True)
class Knob:
    """One declared hyper-parameter, as forms and docs read it."""

    name: str
    default: Any
    help: str
    above: float | None
    below: float | None
    at_least: float | None
    at_most: float | None
    choices: tuple[str, ...] | None

    @property
    def type(self) -> type:
        return type(self.default)

    def clean(self, value: Any) -> Any:
        """`value` in the knob's type. Raises ValueError with a sentence a user understands."""
        if self.choices is not None:
            if value not in self.choices:
                raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}")
            return value
        if self.type is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{self.name} must be true or false")
            return value
        try:
            number: float = float(value) if self.type is float else int(value)
        except (TypeError, ValueError, OverflowError):
            kind = "a whole number" if self.type is int else "a number"
            raise ValueError(f"{self.name} must be {kind}, not {value!r}") from None
        if not math.isfinite(number) or (self.type is int and number != float(value)):
            raise ValueError(f"{self.name} must be a finite {self.type.__name__}, not {value!r}")
        for bound, holds, words in (
            (self.above, operator.gt, "above"),
            (self.below, operator.lt, "below"),
            (self.at_least, operator.ge, "at least"),
            (self.at_most, operator.le, "at most"),
        ):
            if bound is not None and not holds(number, bound):
                raise ValueError(f"{self.name} must be {words} {bound:g}, not {number:g}")
        return number


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A class whose knobs are checked when it is built; `title` is what people call it."""

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for one in self.knobs():
            object.__setattr__(self, one.name, one.clean(getattr(self, one.name)))

    @classmethod
    def knobs(cls) -> tuple[Knob, ...]:
        return tuple(
            Knob(name=f.name, default=f.default, **f.metadata)
            for f in dataclasses.fields(cls)
            if "help" in f.metadata
        )

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        """An instance with these knobs. Raises ValueError naming an unknown or bad one."""
        unknown = values.keys() - {one.name for one in cls.knobs()}
        if unknown:
            raise ValueError(f"{cls.title} has no setting called {', '.join(sorted(unknown))}")
        return cls(**values)
