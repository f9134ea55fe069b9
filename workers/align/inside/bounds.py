"""What a program has to return."""

from __future__ import annotations

import math

TOTAL = 100.0  # the largest absolute value of a total
COMPONENTS = 12
NAME = 60  # characters of a component's name
SAID = 300  # characters of an error that are worth telling


def read(said: object) -> tuple[float, dict[str, float]]:
    """Total and components of what a program returned. Raises ValueError saying what is wrong."""
    if not isinstance(said, dict) or set(said) != {"total", "components"}:
        raise ValueError('compute_reward has to return {"total": ..., "components": {...}}')
    components = said["components"]
    if not isinstance(components, dict):
        raise ValueError("components has to be a dictionary of numbers by name")
    if len(components) > COMPONENTS:
        raise ValueError(f"{len(components)} components; at most {COMPONENTS} are allowed")
    found = {}
    for name, value in components.items():
        if not isinstance(name, str) or not 0 < len(name) <= NAME:
            raise ValueError(f"a component's name has to be a text of 1 to {NAME} characters")
        found[name] = number(value, f"component {name}")
    total = number(said["total"], "total")
    if abs(total) > TOTAL:
        raise ValueError(f"total is {total:.6g}; it has to lie within -{TOTAL:.0f} and {TOTAL:.0f}")
    return total, found


def number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} has to be a number, not {type(value).__name__}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{what} has to be finite")
    return found
