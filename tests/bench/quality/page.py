"""Tables and pictures of what was measured, between the marks of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#2f6fde", "#c07a2b", "#3a9a5b", "#b8434e", "#7d5bbe", "#5b8a9a", "#8a8a3a", "#777777")
OURS = "bradley_terry"
DIFFERENCES = (
    ("log loss", "log_loss_against_trl"),
    ("the Brier score", "brier_against_trl"),
    ("ECE", "ece_against_trl"),
    ("the unbiased error", "error_against_trl"),
)
WIDTH, HEIGHT, LEFT, TOP = 260, 180, 44, 34


def write(page: Path, name: str, text: str, picture: str) -> None:
    """Put a text below its picture, which `draw` makes, between the marks of that name."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, rest = page.read_text(encoding="utf-8").split(start)
    _, after = rest.split(end)
    page.write_text(
        f"{before}{start}\n![{picture}]({name}.svg)\n\n{text}\n{end}{after}", encoding="utf-8"
    )


def draw(page: Path, name: str, svg: str) -> None:
    page.with_name(f"{name}.svg").write_text(svg, encoding="utf-8")


def quality_tables(result: Mapping[str, Any]) -> str:
    """Accuracy by count, then how sure each learner is at a source's largest count."""
    rows = result["rows"]
    columns = list(dict.fromkeys((row["source"], row["labels"]) for row in rows))
    sides = list(dict.fromkeys(row["side"] for row in rows))
    found = {(row["side"], row["source"], row["labels"]): row for row in rows}
    accuracy = [
        "| accuracy | " + " | ".join(f"{source}, {count}" for source, count in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for side in sides:
        cells = [
            short(found[side, *column]["accuracy"]) if (side, *column) in found else ""
            for column in columns
        ]
        accuracy.append(f"| {side} | {' | '.join(cells)} |")
    gaps = [short(found[OURS, *column]["against_trl"]) for column in columns]
    accuracy.append(f"| *{OURS} less TRL, paired* | {' | '.join(gaps)} |")
    for about, key in DIFFERENCES:
        gaps = [fine(found[OURS, *column][key]) for column in columns]
        accuracy.append(f"| *the same of {about}, less is better* | {' | '.join(gaps)} |")
    largest = dict(sorted(columns, key=lambda one: one[1]))
    surety = [
        "| log loss; ECE; unbiased error; ECE at the best temperature | "
        + " | ".join(f"{source}, {count}" for source, count in largest.items())
        + " |",
        "|---" * (len(largest) + 1) + "|",
    ]
    for side in sides:
        cells = []
        for column in largest.items():
            row = found.get((side, *column))
            figures = ("log_loss", "ece", "error", "tempered_ece")
            cells.append("; ".join(f"{row[name]:.3f}" for name in figures) if row else "")
        surety.append(f"| {side} | {' | '.join(cells)} |")
    parts = [accuracy, surety]
    if both := result.get("explicit_and_implicit"):
        parts.append(implicit_table(both))
    return "\n\n".join("\n".join(part) for part in parts)


def implicit_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A reward model's accuracy and a DPO policy's, where they were trained and elsewhere."""
    found = [
        "| trained on | measured on | explicit | implicit | explicit less implicit, paired |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        home = " (held out)" if row["source"] == row["measured_on"] else ""
        cells = " | ".join(short(row[name]) for name in ("explicit", "implicit", "gap"))
        found.append(f"| {row['source']}, {row['labels']} | {row['measured_on']}{home} | {cells} |")
    return found


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
    """Gold at a few n and after each round, and every reading against the single model."""
    parts = []
    picked, trained = result["best_of_n"], result["rounds"]
    counts = sorted({row["n"] for row in picked["rows"]})[2::2]
    counts = sorted({*counts, picked["answers"]})
    parts.append(
        [
            "| best of n, gold gain by | " + " | ".join(f"n = {n}" for n in counts)
            + " | less the single model's (95 %) | apart | the same over worlds (95 %) |",
            "|---" * (len(counts) + 4) + "|",
        ]
    )  # fmt: skip
    for name, one in picked["readings"].items():
        found = {row["n"]: row for row in picked["rows"] if row["reading"] == name}
        cells = [f"{found[n]['gold']['value']:.2f}" for n in counts[:-1]]
        cells.append(short(one["gold"]))
        worlds = short(one["over_worlds"]) if "over_worlds" in one else ""
        parts[-1].append(f"| {name} | {' | '.join(cells)} | {versus(one)} | {worlds} |")
    numbers = sorted({row["round"] for row in trained["rows"]})[1:]
    parts.append(
        [
            "| DPO rounds, gold gain by | " + " | ".join(f"round {n}" for n in numbers)
            + " | KL, nats | win rate | collapsed | less the single model's (95 %) | apart |",
            "|---" * (len(numbers) + 6) + "|",
        ]
    )  # fmt: skip
    for name, one in trained["readings"].items():
        found = {row["round"]: row for row in trained["rows"] if row["reading"] == name}
        cells = [f"{found[n]['gold']['mean']:.2f}" for n in numbers[:-1]]
        end = found[numbers[-1]]
        cells += [short(one["gold"]), f"{end['kl']:.1f}", f"{end['gold_win_rate']:.3f}"]
        cells.append(f"{end['collapsed']} of {end['runs']}")
        parts[-1].append(f"| {name} | {' | '.join(cells)} | {versus(one)} |")
    fits = ["| best of n | peak of Gao's fit, sqrt(KL) |", "|---|---|"]
    for name, one in picked["readings"].items():
        peak = f"{one['fit']['peak']:.2f}" if one["fit"]["identified"] else one["fit"]["why"]
        fits.append(f"| {name} | {peak} |")
    return "\n\n".join("\n".join(part) for part in (*parts, fits))


def versus(one: Mapping[str, Any]) -> str:
    """The last two cells of a reading's row."""
    if "against_single" not in one:
        return " | "
    apart = "yes" if one["apart"] else "paired only" if one["paired"] else "no"
    return f"{short(one['against_single'])} | {apart}"


def overopt_picture(result: Mapping[str, Any]) -> str:
    panels = []
    for about, rows in (
        ("best of n: gold gain against sqrt(KL), upper bound", result["best_of_n"]["rows"]),
        ("DPO rounds: gold gain against sqrt(KL)", result["rounds"]["rows"]),
    ):
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for row in rows:
            gold = row["gold"]
            value = gold["value"] if "value" in gold else gold["mean"]
            ends = [value if math.isnan(gold[end]) else gold[end] for end in ("low", "high")]
            point = (row.get("d_bound", row["d"]), value, *ends)
            lines.setdefault(row["reading"], []).append(point)
        panels.append((about, lines))
    return panels_svg("Gold gain, 95 % intervals", panels)


def panels_svg(
    title: str,
    panels: Sequence[tuple[str, Mapping[str, Sequence[tuple[float, float, float, float]]]]],
    reach: tuple[float, float] | None = None,
) -> str:
    """Lines with intervals, readable on light and dark pages: (x, value, low, high) a point. Each
    panel reaches as far as its intervals, unless told how far."""
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    width = len(panels) * (WIDTH + LEFT) + 30
    height = TOP + HEIGHT + 40 + 16 * len(names)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#777">',
        f"<title>{title}</title>",
    ]
    for place, (about, lines) in enumerate(panels):
        left = LEFT + place * (WIDTH + LEFT)
        points = [point for line in lines.values() for point in line]
        last = max(point[0] for point in points)
        low, high = reach or (min(0.0, *(p[2] for p in points)), max(p[3] for p in points))

        def x(value: float, left: int = left, last: float = last) -> float:
            return left + WIDTH * value / last

        def y(value: float, low: float = low, high: float = high) -> float:
            return TOP + HEIGHT * (high - min(max(value, low), high)) / (high - low)

        out.append(f'<text x="{left}" y="{TOP - 14}">{about}</text>')
        for step in range(5):
            value = low + (high - low) * step / 4
            out.append(
                f'<path d="M{left} {y(value):.1f}h{WIDTH}" stroke="#888" stroke-opacity=".3"/>'
                f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
            )
        for tick in (last * step / 4 for step in range(5)):
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


def fine(one: Mapping[str, float]) -> str:
    """A small difference with its interval, its sign told."""
    return f"{one['value']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def short(one: Mapping[str, float]) -> str:
    value = one["value"] if "value" in one else one["mean"]
    if math.isnan(one["low"]):
        return f"{value:.2f} (one seed)"
    return f"{value:.2f} ({one['low']:.2f} to {one['high']:.2f})"
