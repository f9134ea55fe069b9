"""A person's weeks as small pictures: whether agreement, skill, ties and pace drift.

Weeks stand where they are in time, so a pause shows as a gap; a line joins neighbouring weeks only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django import template

from plumbline.collect.quality.report import Week
from plumbline.collect.templatetags.quality import percent, seconds

register = template.Library()
WIDTH, HEIGHT, MARGIN = 240, 72, 6  # of a picture, in its own units
FEW = 10  # votes of a week below which its dot is hollow: it may well be chance


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    few: bool
    words: str


@dataclass(frozen=True)
class Chart:
    """lines: points of neighbouring weeks, as SVG has them. mark: the height of a thin line."""

    title: str
    dots: list[Dot]
    lines: list[str]
    top: str  # what the upper end means
    mark: float | None = None
    mark_words: str = ""

    @property
    def words(self) -> str:
        return f"{self.title} by week: " + "; ".join(dot.words for dot in self.dots)


@register.inclusion_tag("collect/drift.html")
def drift(weeks: Sequence[Week], accuracy: float) -> dict[str, Any]:
    """Four pictures of two weeks or more; `accuracy` is the least one wanted on known ones."""
    if len(weeks) < 2:
        return {"charts": []}
    slowest = max((week.seconds or 0.0 for week in weeks), default=0.0) or 1.0
    charts = [
        _chart("Agree with others", weeks, lambda week: week.agreement, mark=0.5),
        _chart("Known ones right", weeks, lambda week: week.gold, mark=accuracy),
        _chart("Ties", weeks, lambda week: week.ties),
        _chart("Median vote", weeks, lambda week: week.seconds, top=slowest),
    ]
    return {
        "charts": [one for one in charts if one.dots],
        "box": (WIDTH, HEIGHT),
        "ends": (weeks[0].monday, weeks[-1].monday),
        "few": FEW if any(week.votes < FEW for week in weeks) else None,
    }


def _chart(
    title: str,
    weeks: Sequence[Week],
    read: Callable[[Week], float | None],
    top: float | None = None,
    mark: float | None = None,
) -> Chart:
    """`top`: seconds at the upper end; None for a share."""
    write = percent if top is None else seconds
    dots: list[Dot] = []
    lines: list[list[str]] = []
    before: date | None = None
    for week in weeks:
        value = read(week)
        if value is None:
            continue
        x, y = _across(week.monday, weeks), _up(value / (top or 1.0))
        said = f"{week.monday:%-d %b}: {write(value)}, {week.votes} votes"
        dots.append(Dot(x, y, week.votes < FEW, said))
        if before is None or week.monday - before > timedelta(days=7):
            lines.append([])
        lines[-1].append(f"{x},{y}")
        before = week.monday
    return Chart(
        title,
        dots,
        [" ".join(points) for points in lines if len(points) > 1],
        write(top or 1.0),
        None if mark is None else _up(mark),
        "" if mark is None else write(mark),
    )


def _across(monday: date, weeks: Sequence[Week]) -> float:
    first, last = weeks[0].monday, weeks[-1].monday
    share = (monday - first) / (last - first)
    return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)


def _up(share: float) -> float:
    return round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)
