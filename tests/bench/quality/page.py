"""Tables and pictures of what was measured, between the marks of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#2f6fde", "#c07a2b", "#3a9a5b", "#b8434e", "#7d5bbe", "#5b8a9a", "#8a8a3a", "#777777")
WIDTH, HEIGHT, LEFT, TOP = 260, 180, 44, 34


def write(page: Path, name: str, text: str) -> None:
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, rest = page.read_text(encoding="utf-8").split(start)
    _, after = rest.split(end)
    page.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def draw(page: Path, name: str, svg: str) -> None:
    page.with_name(f"{name}.svg").write_text(svg, encoding="utf-8")


def quality_tables(result: Mapping[str, Any]) -> str:
    out = [
        "| votes | labels | learner | accuracy (95 %) | less TRL's (95 %) | log loss | ECE "
        "| ECE at its best temperature |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        accuracy, gap = row["accuracy"], row["against_trl"]
        than = "" if row["side"] == "TRL" else span(gap)
        out.append(
            f"| {row['source']} | {row['labels']} | {row['side']} | {span(accuracy)} | {than} "
            f"| {row['log_loss']:.3f} | {row['ece']:.3f} | {row['tempered_ece']:.3f} |"
        )
    return "\n".join(out)


def quality_picture(result: Mapping[str, Any]) -> str:
    """Accuracy against labels, a panel a source."""
    panels = []
    for source in dict.fromkeys(row["source"] for row in result["rows"]):
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for row in result["rows"]:
            if row["source"] == source and row["accuracy"]:
                one = row["accuracy"]
                point = (row["labels"], one["value"], one["low"], one["high"])
                lines.setdefault(row["side"], []).append(point)
        panels.append((source, lines))
    return panels_svg("Held-out accuracy against labels, 95 % intervals", panels, (0.3, 0.9))


def overopt_tables(result: Mapping[str, Any]) -> str:
    out = [
        "| reading | n | sqrt(KL bound) | sqrt(KL), estimated | gold gain (95 %) | win rate |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        out.append(
            f"| {row['reading']} | {row['n']} | {row['d_bound']:.2f} | {row['d']:.2f} "
            f"| {span(row['gold'])} | {row['win_rate']:.3f} |"
        )
    fits = ["| reading | gold at the largest n less the single model's (95 %) | peak of the fit |",
            "|---|---|---|"]  # fmt: skip
    for name, one in result["readings"].items():
        fit = one["fit"]
        peak = f"sqrt(KL) {fit['peak']:.2f}" if fit["identified"] else fit["why"]
        fits.append(f"| {name} | {span(one['against_single'])} | {peak} |")
    return "\n".join(out) + "\n\n" + "\n".join(fits)


def overopt_picture(result: Mapping[str, Any]) -> str:
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in result["rows"]:
        gold = row["gold"]
        point = (row["d_bound"], gold["value"], gold["low"], gold["high"])
        lines.setdefault(row["reading"], []).append(point)
    highest = max(point[3] for points in lines.values() for point in points)
    lowest = min(0.0, *(point[2] for points in lines.values() for point in points))
    panel = [("gold gain against sqrt(KL), upper bound", lines)]
    return panels_svg("Gold gain of the best of n, 95 % intervals", panel, (lowest, highest))


def panels_svg(
    title: str,
    panels: Sequence[tuple[str, Mapping[str, Sequence[tuple[float, float, float, float]]]]],
    reach: tuple[float, float],
) -> str:
    """Lines with intervals, readable on light and dark pages: (x, value, low, high) a point."""
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    width = len(panels) * (WIDTH + LEFT) + 30
    height = TOP + HEIGHT + 40 + 16 * len(names)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#777">',
        f"<title>{title}</title>",
    ]
    low, high = reach
    for place, (about, lines) in enumerate(panels):
        left = LEFT + place * (WIDTH + LEFT)
        last = max(point[0] for points in lines.values() for point in points)

        def x(value: float, left: int = left, last: float = last) -> float:
            return left + WIDTH * value / last

        def y(value: float) -> float:
            return TOP + HEIGHT * (high - min(max(value, low), high)) / (high - low)

        out.append(f'<text x="{left}" y="{TOP - 14}">{about}</text>')
        for step in range(5):
            value = low + (high - low) * step / 4
            out.append(
                f'<path d="M{left} {y(value):.1f}h{WIDTH}" stroke="#888" stroke-opacity=".3"/>'
                f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
            )
        for tick in sorted({point[0] for points in lines.values() for point in points})[::2]:
            out.append(
                f'<text x="{x(tick):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">'
                f"{tick:.3g}</text>"
            )
        for name, points in lines.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            path = "L".join(f"{x(p[0]):.1f} {y(p[1]):.1f}" for p in points)
            out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            for at, value, lower, upper in points:
                out.append(
                    f'<path d="M{x(at):.1f} {y(lower):.1f}V{y(upper):.1f}" stroke="{colour}" '
                    f'stroke-opacity=".45"/><circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3" '
                    f'fill="{colour}"/>'
                )
    for k, name in enumerate(names):
        at = TOP + HEIGHT + 42 + 16 * k
        out.append(
            f'<path d="M{LEFT} {at - 4}h22" stroke="{COLOURS[k % len(COLOURS)]}" '
            f'stroke-width="3"/><text x="{LEFT + 30}" y="{at}">{name}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


def plain(value: Any) -> Any:
    """The same for JSON, which has no infinity: what could be anything is null."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def span(one: Mapping[str, float] | None) -> str:
    if one is None:
        return ""
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
