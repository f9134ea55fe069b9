"""A figure against KL as a small picture: where its points, whiskers, curve and ticks are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.lab.templatetags.lab import figure, share
from plumbline.loop.frontier import Point, Series

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 34
STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Mark:
    """A point with its whisker, in the picture's units."""

    x: str
    y: str
    low: str
    high: str
    direct: bool
    says: str  # for a pointer that rests on it


@dataclass(frozen=True)
class Tick:
    at: str
    text: str


@dataclass(frozen=True)
class Panel:
    series: Series
    marks: list[Mark]
    curve: str  # points of a polyline
    level: str  # height of the base's own figure
    peak: str  # where the curve is highest, if that is known
    guards: list[Tick]
    across: list[Tick]
    up: list[Tick]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM
    under: int = HEIGHT - BOTTOM + 18


def panel(series: Series, guards: Sequence[tuple[float, str]], root: bool, last: float) -> Panel:
    """The picture of a series; x is the root of KL, or KL. `last` is the farthest KL of any panel,
    so that all have one scale across."""
    place = math.sqrt if root else float
    farthest = place(last) or 1.0
    near = [one for one in guards if place(one[0]) <= farthest * 1.15]
    farthest = max([farthest, *(place(kl) for kl, _ in near)]) * 1.04
    heights = [v for one in series.points for v in (one.low, one.high, one.value)]
    heights += [value for _, value in series.curve] + [series.level]
    low, high = min(heights), max(heights)
    room = (high - low) * 0.06 or 0.1
    low, high = (low - room if low else 0.0), high + room
    if series.unit == "share":
        low, high = max(0.0, low), min(1.0, high)

    def x(kl: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * place(kl) / farthest:.1f}"

    def y(value: float) -> str:
        height = HEIGHT - TOP - BOTTOM
        inside = min(1.0, max(0.0, (value - low) / (high - low)))
        return f"{TOP + height * (1 - inside):.1f}"

    write: Callable[[float], str] = share if series.unit == "share" else figure
    across = [Tick(x(one * one if root else one), figure(one)) for one in ticks(0.0, farthest, 6)]
    return Panel(
        series=series,
        marks=[_mark(one, x, y, write) for one in series.points],
        curve=" ".join(f"{x(kl)},{y(value)}" for kl, value in series.curve),
        level=y(series.level),
        peak=x(series.fit.peak**2) if series.fit and series.fit.identified else "",
        guards=[Tick(x(kl), f"gate: {figure(kl)} nats ({whose})") for kl, whose in near],
        across=across,
        up=[Tick(y(one), _short(one, series.unit)) for one in ticks(low, high, 5)],
        summary=summary(series, write),
    )


def summary(series: Series, write: Callable[[float], str]) -> str:
    """What the picture shows, in words."""
    if not series.points:
        return f"{series.title}: nothing measured."
    said = "; ".join(
        f"{one.policy} {write(one.value)} ({write(one.low)} to {write(one.high)}) at KL "
        f"{figure(one.kl)}"
        for one in series.points[:24]
    )
    more = len(series.points) - 24
    return f"{series.title}: {said}{f'; and {more} more' if more > 0 else ''}."


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, at most so many."""
    if high <= low:
        return [low]
    size = 10 ** math.floor(math.log10((high - low) / most))
    step = next(one * size for one in STEPS if (high - low) / (one * size) <= most)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + k) * step, 10) for k in range(count)]


def _mark(
    one: Point, x: Callable[[float], str], y: Callable[[float], str], write: Callable[[float], str]
) -> Mark:
    how = "" if one.direct else ", by ratings through others"
    says = f"{one.policy}: {write(one.value)} ({write(one.low)} to {write(one.high)}), KL "
    says += f"{figure(one.kl)}{how}"
    return Mark(x(one.kl), y(one.value), y(one.low), y(one.high), one.direct, says)


def _short(value: float, unit: str) -> str:
    return f"{100 * value:g} %" if unit == "share" else f"{value:g}"
