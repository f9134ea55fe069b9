"""Figures as researchers read them: shares, times, and an interval as a small picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from django import template

from plumbline.lab.timeline import purpose
from plumbline.loop.models import Stage

register = template.Library()
register.filter("purpose", purpose)
Figure = float | None | Literal[""]  # "" is what a template makes of a path that leads nowhere
NONE = "–"
WITH_CAPITALS = {"kl": "KL to base", "gpu hours": "GPU hours"}

WIDTH = 120  # of the interval's picture, in its own units


@register.filter
def share(value: Figure) -> str:
    """0.574 as "57.4 %"; a dash when there is none."""
    return NONE if value is None or value == "" else f"{100 * value:.1f} %"


@register.filter
def points(value: Figure) -> str:
    """A change of a share, 0.021 as "+2.1 points"."""
    return NONE if value is None or value == "" else f"{100 * value:+.1f} points"


@register.filter
def signed(value: Figure) -> str:
    """The end of an interval of such a change, 0.021 as "+2.1": its unit was said."""
    return NONE if value is None or value == "" else f"{100 * value:+.1f}"


@register.filter
def figure(value: Figure) -> str:
    """Three significant digits; a dash when there is none."""
    return NONE if value is None or value == "" else f"{value:.3g}"


@register.filter
def signed_figure(value: Figure) -> str:
    """Three significant digits and a sign, which 0 has not; a dash when there is none."""
    if value is None or value == "":
        return NONE
    return f"{value:+.3g}" if value else "0"


@register.filter
def duration(seconds: Figure) -> str:
    """Seconds as people say them: "0.4 s", "48 s", "3 min 5 s", "2 h 10 min"."""
    if seconds is None or seconds == "":
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


@register.filter
def check_name(name: str) -> str:
    """What a gate or a stop rule looks at, as a heading: "Win rate", "KL to base"."""
    return WITH_CAPITALS.get(name) or name[:1].upper() + name[1:]


@register.filter
def last_value(row: tuple[int, list[float | None]] | str, index: int) -> float | None:
    """The figure of series `index` in a chart's last row; "" stands for no row."""
    return row[1][index] if isinstance(row, tuple) else None


@register.filter
def stage_names(stages: Sequence[Stage]) -> str:
    """Stages in a sentence: "Label, Train and 3 others"."""
    names = [str(one.label) for one in stages]
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} others"
    return " and ".join([*[", ".join(names[:-1])] * (len(names) > 1), *names[-1:]])


@register.filter
def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def setting(value: Any) -> str:
    """A setting's value: switches as on and off, small numbers without a row of zeros."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@register.filter
def first_line(text: str) -> str:
    return text.partition("\n")[0]


@register.filter
def words(name: str) -> str:
    """A setting's name as words: "learning_rate" as "learning rate"."""
    return name.replace("_", " ")


@register.inclusion_tag("lab/interval.html")
def interval(rate: float, low: float, high: float) -> dict[str, Any]:
    """A share with its interval on a line from 0 to 1; the mark in the middle is one half."""

    def place(value: float) -> str:
        return f"{6 + value * (WIDTH - 12):.1f}"

    verdict = "better" if low > 0.5 else "worse" if high < 0.5 else "unclear"
    return {
        "rate": rate,
        "low": low,
        "high": high,
        "verdict": verdict,
        "width": WIDTH,
        "at": place(rate),
        "from": place(low),
        "to": place(high),
        "span": f"{(high - low) * (WIDTH - 12):.1f}",
    }
