"""What a retrained reward model must show before it replaces the last one. Pure functions.

Both are measured on the same votes, which trained neither, and on the same answers. A difference
counts against the new model when its whole 95 % interval does: accuracy on people's held-out votes
must not drop, calibration must not worsen, and length must not come to matter more. A figure that
could not be measured never passes.
"""

from __future__ import annotations

import math

from align.measure.intervals import Interval
from plumbline.loop.gates import Check


def checks(
    *,
    accuracy: Interval | None,
    ece: Interval | None,
    length: Interval | None,
) -> list[Check]:
    """Each is the new model's figure less the last one's."""
    return [accuracy_kept(accuracy), calibration_kept(ece), length_no_stronger(length)]


def accuracy_kept(change: Interval | None) -> Check:
    if change is None:
        return _missing("held-out accuracy", "No decided vote of people is held out")
    evidence = (
        f"On people's held-out votes accuracy changes by {_points(change)}; "
        "a drop must not be certain."
    )
    return Check("held-out accuracy", change.high >= 0, evidence, _values(change))


def calibration_kept(change: Interval | None) -> Check:
    if change is None:
        return _missing("calibration", "No vote of people is held out")
    evidence = (
        f"The calibration error (ECE) on people's held-out votes changes by {_points(change)}; "
        "a rise must not be certain."
    )
    return Check("calibration", change.low <= 0, evidence, _values(change))


def length_no_stronger(change: Interval | None) -> Check:
    if change is None:
        return Check(
            "length correlation",
            True,
            "One of the models scores the fixed answers all alike, or they are all as long: there "
            "is no correlation with length to compare.",
            {"change": None},
        )
    evidence = (
        f"The correlation of score and length within prompts changes by {change.value:+.2f}"
        f"{_range(change, '{:+.2f}')}; a rise must not be certain."
    )
    return Check("length correlation", change.low <= 0, evidence, _values(change))


def first() -> Check:
    """The first model of an experiment replaces nothing."""
    return Check("first model", True, "There is no earlier reward model to compare with.")


def _missing(name: str, what: str) -> Check:
    evidence = f"{what}, so the two models cannot be compared; the last one judges on."
    return Check(name, False, evidence, {"change": None})


def _points(change: Interval) -> str:
    """In percentage points."""
    scaled = Interval(100 * change.value, 100 * change.low, 100 * change.high, change.groups)
    return f"{scaled.value:+.1f} points{_range(scaled, '{:+.1f}')}"


def _range(change: Interval, form: str) -> str:
    prompts = f"{change.groups} prompt{'s' * (change.groups != 1)}"
    if not math.isfinite(change.low):
        return f" ({prompts}: too few for an interval)"
    low, high = form.format(change.low), form.format(change.high)
    return f" (95% interval {low} to {high}, {prompts})"


def _values(change: Interval) -> dict[str, float | None]:
    return {"change": change.value, "low": change.low, "high": change.high}
