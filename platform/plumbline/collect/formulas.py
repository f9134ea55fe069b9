"""LaTeX formulas as MathML, which browsers draw themselves: no script, no fonts, no third party.

Of what the converter makes only a list of elements and attributes is let through, and all text is
escaped here (the converter itself does not), so a formula can hold nothing but itself. What cannot
be read is shown as it was written.
"""

from __future__ import annotations

from functools import lru_cache
from html import unescape
from xml.etree.ElementTree import Element

from django.utils.html import escape
from latex2mathml import exceptions
from latex2mathml.converter import convert_to_element

LONGEST = 2000  # characters; nobody reads a longer formula
TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd"),
    *("mpadded", "mphantom", "menclose", "mmultiscripts", "mprescripts", "none"),
}
ATTRIBUTES = {
    *("display", "mathvariant", "stretchy", "fence", "separator", "form", "accent", "lspace"),
    *("rspace", "linethickness", "columnalign", "columnlines", "rowlines", "movablelimits"),
    *("minsize", "maxsize", "width", "height", "depth", "scriptlevel", "displaystyle", "notation"),
}
# What the converter raises on text that is no formula: its own kinds, and slips of its parser.
UNREADABLE: tuple[type[Exception], ...] = (
    *(kind for kind in vars(exceptions).values() if isinstance(kind, type)),
    *(ValueError, LookupError, TypeError, AttributeError, StopIteration, RuntimeError),
    *(RecursionError, AssertionError),
)


@lru_cache(maxsize=2048)
def mathml(latex: str, *, block: bool = False) -> str:
    """Safe MathML of a formula; the source as code when it cannot be read."""
    if len(latex) <= LONGEST:
        try:
            drawn = _checked(convert_to_element(latex.strip(), display=_display(block)))
            # One on its own line scrolls when it is wide, so the keyboard must reach it.
            return drawn.replace("<math", '<math tabindex="0"', 1) if block else drawn
        except UNREADABLE:
            pass
    return f"<code>{escape(latex.strip())}</code>"


def _display(block: bool) -> str:
    return "block" if block else "inline"


def _checked(element: Element) -> str:
    """An element of the list as text, with nothing in it that is not."""
    tag = element.tag
    if tag not in TAGS:
        raise ValueError(f"{tag} is no part of a formula")
    given = element.attrib.items()
    attributes = "".join(f' {k}="{_text(v)}"' for k, v in given if k in ATTRIBUTES)
    inside = _text(element.text)
    for child in element:
        inside += _checked(child) + _text(child.tail)
    return f"<{tag}{attributes}>{inside}</{tag}>"


def _text(written: str | None) -> str:
    """The converter writes signs as character references."""
    return escape(unescape(written or ""))
