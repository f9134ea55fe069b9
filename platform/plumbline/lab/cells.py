"""A figure of a round as the table of rounds writes it, with its change against the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from plumbline.lab.templatetags.lab import NONE, duration, figure, setting, share
from plumbline.loop.models import Stage
from plumbline.loop.runs import Run
from plumbline.loop.runs_query import Column, number
from plumbline.policies.models import Policy

CELL = '<td data-label="{}"{}><span>{}{}</span></td>'
BADGE = '<span class="badge" data-state="{}">{}</span>'
RATE = '<strong>{}</strong> <span class="soft small nowrap">{} – {}</span>'
MONO = '<span class="mono">{}</span>'
DELTA = ' <span class="delta" data-verdict="{}">{}</span>'
NUMERIC = mark_safe(' class="num"')
RIGHT = ("figure", "share", "count", "seconds")
UNSAFE = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run what begins with these
STAGES, STATES = dict(Stage.choices), dict(Policy.State.choices)


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: words, for a rate its interval, and a delta with its verdict."""

    title: str
    form: str
    text: str
    state: str = ""  # of a badge
    low: str = ""
    high: str = ""
    delta: str = ""
    verdict: str = ""  # better, worse or "" of the delta

    @property
    def markup(self) -> SafeString:
        """Of the whole cell. A template would take ten times as long, and there are thousands."""
        if self.state:
            inner = format_html(BADGE, self.state, self.text)
        elif self.low:
            inner = format_html(RATE, self.text, self.low, self.high)
        elif self.form == "mono":
            inner = format_html(MONO, self.text)
        else:
            inner = conditional_escape(self.text)
        delta = format_html(DELTA, self.verdict, self.delta) if self.delta else ""
        numeric = NUMERIC if self.form in RIGHT else ""
        return format_html(CELL, self.title, numeric, inner, delta)


def cell(run: Run, column: Column, baseline: Run | None) -> Cell:
    value = column.value(run)
    low, high = interval(run, column)
    delta = verdict = ""
    if baseline is not None and baseline.pk != run.pk:
        delta, verdict = change(column, value, column.value(baseline))
    text, state = words(column, value)
    return Cell(
        title=column.title,
        form=column.form,
        text=text,
        state=state,
        low=share(low) if low is not None else "",
        high=share(high) if high is not None else "",
        delta=delta,
        verdict=verdict,
    )


def words(column: Column, value: Any) -> tuple[str, str]:
    """The value as text, and the state of a badge where it is one."""
    if value is None or value == "":
        return NONE, ""
    match column.form:
        case "stage":
            return str(STAGES.get(value, value)), str(value)
        case "state":
            return str(STATES.get(value, value)), str(value)
        case "gate":
            return ("passed", "pass") if value else ("not passed", "fail")
        case "rate" | "share":
            return share(value), ""
        case "figure":
            return figure(value), ""
        case "seconds":
            return duration(value), ""
        case "time":
            return f"{value:%-d %b %Y, %H:%M}", ""
        case "setting":
            return setting(value), ""
    return str(value), ""


def change(column: Column, value: Any, base: Any) -> tuple[str, str]:
    """The difference from the baseline in words, and whether it is for the better; of settings
    only that they differ."""
    ours, theirs = number(value), number(base)
    if ours is None or theirs is None:
        differs = column.form == "setting" and value != base
        return (f"not {setting(base)}" if differs else ""), ""
    gap = ours - theirs
    if not gap or column.form == "seconds" and abs(gap) < 0.05:
        return "±0", ""
    if column.form in ("rate", "share"):
        text = f"{100 * gap:+.1f} points"
    elif column.form == "seconds":
        text = f"{'+' if gap > 0 else '−'}{duration(abs(gap))}"
    else:
        text = f"{gap:+.3g}"
    good = gap * column.better
    return text, "better" if good > 0 else "worse" if good < 0 else ""


def interval(run: Run, column: Column) -> tuple[float | None, float | None]:
    """The ends of a rate's interval; none of any other figure."""
    if column.form != "rate":
        return None, None
    figures = run.base if column.key == "base" else run.current
    return figures.get("low"), figures.get("high")


def raw(run: Run, column: Column) -> list[Any]:
    """What a CSV says of it: three values for a rate, else one; "" where there is none."""
    value = column.value(run)
    if column.form == "time" and value is not None:
        value = value.isoformat()
    found = [value, *interval(run, column)] if column.form == "rate" else [value]
    return ["" if one is None else plain(one) if isinstance(one, str) else one for one in found]


def plain(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(UNSAFE) else text
