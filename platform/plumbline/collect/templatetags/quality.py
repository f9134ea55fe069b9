"""Estimates as people read them: the figure, its interval in words, and both as a small picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from django import template

from plumbline.collect.quality.intervals import Estimate
from plumbline.collect.quality.position import Bias
from plumbline.collect.quality.skill import Skill

register = template.Library()
NONE = "–"
Figure = float | Literal[""] | None  # "" is what a template makes of a path to nowhere
WIDTH, MARGIN = 120, 6  # of a picture, in its own units
MOST_BIAS = 1.5  # log-odds at the ends of the meter


@dataclass(frozen=True)
class Scale:
    least: float
    most: float
    mark: float  # where a thin line stands: chance, or no bias

    def place(self, value: float) -> float:
        inside = min(self.most, max(self.least, value))
        share = (inside - self.least) / (self.most - self.least)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)


SCALES = {"share": Scale(0, 1, 0.5), "coefficient": Scale(-0.25, 1, 0)}


@register.filter
def percent(value: Figure) -> str:
    """0.574 as "57 %"; a dash when there is none."""
    return NONE if value is None or value == "" else f"{100 * value:.0f} %"


@register.filter
def seconds(value: Figure) -> str:
    if value is None or value == "":
        return NONE
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


@register.filter
def coefficient(value: Figure) -> str:
    """0.421 as "0.42", with a minus sign where it is one."""
    return NONE if value is None or value == "" else f"{value:.2f}".replace("-", "−")


@register.filter
def risk(found: Skill, accuracy: float) -> str:
    """P(the accuracy is below this), which is never quite certain."""
    chance = found.below(accuracy)
    return "over 99 %" if chance > 0.99 else "under 1 %" if chance < 0.01 else percent(chance)


@register.filter
def once_in(chance: float) -> str:
    """0.0004 as "once in 2,500"."""
    return "hardly ever" if chance < 1e-9 else f"once in {max(1, round(1 / chance, -1)):,.0f}"


@register.inclusion_tag("collect/estimate.html")
def estimate(found: Estimate, kind: str = "share", name: str = "") -> dict[str, Any]:
    """A share or a coefficient on its scale; where it is undefined, the reason in words."""
    write = percent if kind == "share" else coefficient
    return {"found": found, "name": name} | _picture(
        SCALES[kind], found.value, found.low, found.high, write
    )


@register.inclusion_tag("collect/estimate.html")
def skill(found: Skill, least: float, name: str = "") -> dict[str, Any]:
    """The accuracy on known comparisons with its posterior's interval, beside the least wanted."""
    low, high = found.interval() if found.n else (None, None)
    why = "" if found.n else "No known comparison answered yet."
    value = found.mean if found.n else None
    estimate = Estimate(value, low, high, found.n, why)
    scale = Scale(0, 1, least)
    return {"found": estimate, "name": name} | _picture(scale, value, low, high, percent)


@register.inclusion_tag("collect/bias.html")
def bias(found: Bias | None, threshold: float, name: str = "") -> dict[str, Any]:
    """The left-bias meter: log-odds of the left around none, and where the alert begins."""
    if found is None:
        return {"found": None}
    scale = Scale(-MOST_BIAS, MOST_BIAS, 0)
    # The left of the meter is the left of the screen.
    at, low, high = -found.b, -found.high, -found.low
    return {
        "found": found,
        "name": name,
        "alert": found.alerts(threshold),
        "side": "left" if found.b > 0 else "right",
        "share": percent(max(found.share, 1 - found.share)),
        "calm_from": scale.place(-threshold),
        "calm": round(scale.place(threshold) - scale.place(-threshold), 1),
    } | _picture(scale, at, low, high, coefficient)


def _picture(
    scale: Scale, value: float | None, low: float | None, high: float | None, write: Any
) -> dict[str, Any]:
    if value is None:
        return {}
    drawn = {"at": scale.place(value), "mark": scale.place(scale.mark), "value": write(value)}
    if low is not None and high is not None:
        start = scale.place(low)
        drawn |= {
            "from": start,
            "span": round(scale.place(high) - start, 1),
            "low": write(low),
            "high": write(high),
        }
    return drawn
