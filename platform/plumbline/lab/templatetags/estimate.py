"""Ranges as people read them: "120 to 200", "2 h to 3 h", "about 4 to 9 USD"."""

from __future__ import annotations

from django import template

from plumbline.lab.templatetags.lab import duration
from plumbline.loop.speeds import Range

register = template.Library()
UNKNOWN = "not known"


@register.filter
def votes(amount: Range | None) -> str:
    if amount is None:
        return UNKNOWN
    if not amount.high:
        return "none"
    return _between(f"{amount.low:,.0f}", f"{amount.high:,.0f}")


@register.filter
def seconds(amount: Range | None) -> str:
    return UNKNOWN if amount is None else _between(_long(amount.low), _long(amount.high))


@register.filter
def money(amount: Range | None, currency: str) -> str:
    if amount is None:
        return UNKNOWN
    return f"{_between(f'{amount.low:,.2f}', f'{amount.high:,.2f}')} {currency}"


def _long(value: float) -> str:
    """Days where hours would be many."""
    return f"{value / 86_400:.1f} days" if value >= 2 * 86_400 else duration(value)


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
