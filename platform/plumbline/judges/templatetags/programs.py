"""A reward program as it is read on a page: its code in colours, its figures in few digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

register = template.Library()
LONGEST = 20_000  # characters that are highlighted; a program that is refused may be longer
# Its lines stand as they are: leading and trailing empty ones are lines too.
_lexer = PythonLexer(stripnl=False, ensurenl=False)
_formatter = HtmlFormatter(nowrap=True)


@register.filter
def code_lines(code: str) -> list[SafeString]:
    """Safe HTML of each line of Python code."""
    if len(code) > LONGEST:
        return [escape(line) for line in code.splitlines()]
    html = str(highlight(code, _lexer, _formatter)).rstrip("\n")
    return [mark_safe(line) for line in html.split("\n")]


@register.filter
def pairs(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values, also where one of the names is "items"."""
    return list(mapping.items())


@register.filter
def brief(value: float | None) -> str:
    """A figure in at most six digits; a dash where there is none."""
    return "–" if value is None else f"{value:.6g}"
