"""`{{ text|markdown }}`: what a model or a person wrote, made harmless; and what changed in it."""

from __future__ import annotations

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from plumbline.collect import changes, render

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    return render.markdown(str(text))


@register.filter
def raw(text: str) -> SafeString:
    """Text as it is, to the character: places in it are counted, and a page would drop a CR."""
    return mark_safe(escape(text).replace("\r", "&#13;"))


@register.simple_tag
def pieces(before: str, after: str) -> tuple[changes.Piece, ...]:
    """`{% pieces before after as found %}`: the two texts as one, in pieces."""
    return changes.pieces(before, after)
