"""A judge's probability as a small picture."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def rest(p: float) -> float:
    """What a probability leaves to the other answer."""
    return 1 - p


@register.simple_tag
def lean(p: float, people: float | None) -> SafeString:
    """Where a judge, and people where they voted, stand between A at the left and B at the
    right."""

    def place(value: float) -> str:
        return f"{2 + 96 * (1 - value):.1f}%"

    said = f"The judge gives A {100 * p:.1f} %"
    ring: str = ""
    if people is not None:
        said += f", people {100 * people:.1f} %"
        ring = format_html('<circle class="people" cx="{}" cy="9" r="7"/>', place(people))
    return format_html(
        '<svg role="img" aria-label="{said}"><line class="axis" x1="1%" x2="99%" y1="9" y2="9"/>'
        '<line class="middle" x1="50%" x2="50%" y1="1" y2="17"/>'
        '<circle class="judge" cx="{at}" cy="9" r="5"/>{ring}</svg>',
        said=said,
        at=place(p),
        ring=ring,
    )
