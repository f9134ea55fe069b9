"""`{{ text|markdown }}`: what a model or a person wrote, made harmless."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from plumbline.collect import render

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    return render.markdown(str(text))
