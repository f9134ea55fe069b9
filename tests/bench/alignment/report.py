"""The bench's answer: one JSON, one table, one picture; and only what was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.bench.alignment import arms, world
from tests.bench.alignment.intervals import across_seeds, difference

FIGURES = ("gold", "truth", "kl", "kl_k3", "tokens", "truncated", "distinct", "gap")
HEATS = (0.7, 0.5, 0.3, 0.1)


def base(folder: Path, heldout: int) -> dict[str, Any]:
    """The base's own duality gap on the cyclic taste, and what it reaches against itself when it is
    drawn from less warmly."""
    from tests.bench.alignment.measure import SEED, Ruler
    from tests.bench.alignment.sampler import Sampler
    from tests.bench.alignment.workshop import Workshop

    workshop = Workshop(folder, Sampler(world.BASE.base))
    ruler = Ruler(workshop, world.heldout_questions(heldout))
    rates = {
        f"{heat:g}": ruler.against_base(
            workshop.draw(world.BASE, ruler.questions, ruler.answers, heat, SEED + 1)
        )
        for heat in HEATS
    }
    return {"gap": ruler.measure(world.BASE, 0)["gap"], "at_temperature": rates}


def result(
    found: Iterable[Mapping[str, Any]], text: Mapping[str, Any] | None, base: Mapping[str, Any]
) -> dict[str, Any]:
    """All arms over their seeds; `best_gold_win_rate` is that of the best arm of any table that
    people's tastes with a utility were learned in."""
    by_arm: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in found:
        by_arm[one["table"], one["arm"]].append(one)
    order = {
        (table, arm.name): (k, arm)
        for table, chosen in (
            ("methods", arms.METHODS),
            ("ablation", arms.ABLATION),
            ("cyclic", arms.CYCLIC),
        )
        for k, arm in enumerate(chosen)
    }
    tables: dict[str, list[dict[str, Any]]] = {"methods": [], "ablation": [], "cyclic": []}
    for key in sorted(by_arm, key=lambda key: (key[0], order[key][0])):
        seeds = sorted(by_arm[key], key=lambda one: one["seed"])
        tables[key[0]].append(row(seeds, order[key][1].about))
    best = max((*tables["methods"], *tables["ablation"]), key=lambda row: row["gold_win_rate"])
    return {
        "bench": "align",
        "best": best["arm"],
        "best_gold_win_rate": best["gold_win_rate"],
        "low": best["low"],
        "high": best["high"],
        "labels": best["labels"],
        "seeds": best["seeds"],
        **tables,
        "online_less_offline": paired(by_arm, "methods", arms.ONLINE.name, arms.OFFLINE.name),
        "base": base,
        "real_text": text,
    }


def row(seeds: Sequence[Mapping[str, Any]], about: str) -> dict[str, Any]:
    last = [one["rounds"][-1] for one in seeds]
    wins = across_seeds([one["gold_win_rate"] for one in last])
    gaps = across_seeds([one["gap"] for one in last])
    relabelled = [one["relabel_accuracy"] for one in last if "relabel_accuracy" in one]
    return {
        "arm": seeds[0]["arm"],
        "about": about,
        "seeds": len(seeds),
        "labels": seeds[0]["labels"],
        "gold_win_rate": wins.mean,
        "low": wins.low,
        "high": wins.high,
        "by_round": [
            fmean(one["rounds"][k]["gold_win_rate"] for one in seeds)
            for k in range(len(seeds[0]["rounds"]))
        ],
        **{name: fmean(one[name] for one in last) for name in FIGURES},
        "gap_low": gaps.low,
        "gap_high": gaps.high,
        "explored": fmean(one["explored"] for one in seeds),
        "relabel_accuracy": fmean(relabelled) if relabelled else None,
        "seconds": fmean(one["seconds"] for one in seeds),
    }


def paired(
    by_arm: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    table: str,
    ours: str,
    theirs: str,
) -> dict[str, float]:
    """The difference of two arms' win rates, seed by seed."""
    rates = [
        {one["seed"]: one["rounds"][-1]["gold_win_rate"] for one in by_arm[table, name]}
        for name in (ours, theirs)
    ]
    seeds = sorted(rates[0])
    found = difference([rates[0][seed] for seed in seeds], [rates[1][seed] for seed in seeds])
    return {"mean": found.mean, "low": found.low, "high": found.high}


def write(page: Path, result: Mapping[str, Any]) -> None:
    """Put the tables between the page's marks, and the picture beside the page. An ablation has
    marks and a picture of its own."""
    name = "ablation" if result["ablation"] else page.stem
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(start)
    _, after = rest.split(end)
    page.write_text(f"{before}{start}\n{tables(result)}\n{end}{after}", encoding="utf-8")
    page.with_name(f"{name}.svg").write_text(picture(result), encoding="utf-8")


def tables(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    gold = [
        "| arm | gold win rate (95 %) | after rounds 1, 2, 3 | truth | KL, nats | tokens "
        "| distinct | explored | relabelled right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for table in ("methods", "ablation"):
        if result[table]:
            gold.append(f"| *{table}* | | | | | | | | |")
        for one in result[table]:
            rounds = ", ".join(f"{rate:.3f}" for rate in one["by_round"])
            right = one["relabel_accuracy"]
            gold.append(
                f"| {one['arm']}: {one['about']} | **{one['gold_win_rate']:.3f}** "
                f"({span(one['low'], one['high'])}) | {rounds} | {one['truth']:+.2f} "
                f"| {one['kl']:.1f} | {one['tokens']:.0f} | {one['distinct']:.2f} "
                f"| {one['explored']:.0f} | {f'{right:.2f}' if right is not None else ''} |"
            )
    if not result["cyclic"]:
        return "\n".join(gold)
    cyclic = [
        "| arm, cyclic taste | duality gap (95 %) | KL, nats |",
        "|---|---|---|",
        f"| the base | {result['base']['gap']:.3f} | 0 |",
    ]
    cyclic += [
        f"| {one['arm']}: {one['about']} | **{one['gap']:.3f}** "
        f"({span(one['gap_low'], one['gap_high'])}) | {one['kl']:.1f} |"
        for one in result["cyclic"]
    ]
    heats = ["| base against itself, drawn at temperature | gold win rate |", "|---|---|"]
    heats += [f"| {heat} | {rate:.3f} |" for heat, rate in result["base"]["at_temperature"].items()]
    parts = [gold, cyclic, heats]
    if text := result["real_text"]:
        parts.append(
            [
                f"| AlpacaEval, {text['heldout']} held-out pairs | accuracy |",
                "|---|---|",
                f"| implicit reward before training | {text['before']:.3f} |",
                f"| implicit reward after {text['trained_on']} pairs | **{text['after']:.3f}** "
                f"({span(text['low'], text['high'])}) |",
                f"| the longer answer | {text['longer_wins']:.3f} |",
                f"| the likelier answer under the base | {text['base_likelihood']:.3f} |",
            ]
        )
    return "\n\n".join("\n".join(part) for part in parts)


def plain(value: Any) -> Any:
    """The same for JSON, which has no word for an interval that one seed does not give."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def span(low: float, high: float) -> str:
    return "one seed" if math.isnan(low) else f"{low:.3f} to {high:.3f}"


def picture(result: Mapping[str, Any]) -> str:
    """Win rates with their intervals, best arm on top, as SVG that fits light and dark pages."""
    rows = sorted((*result["methods"], *result["ablation"]), key=lambda one: -one["gold_win_rate"])
    left, width, step, top = 190, 440, 24, 30
    low, high = 0.4, 1.0
    height = top + step * len(rows) + 30

    def x(rate: float) -> float:
        return left + width * (min(max(rate, low), high) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 70} {height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#777">',
        "<title>Gold win rate against the base after three rounds, 95 % intervals</title>",
    ]
    for tick in range(4, 11):
        at = x(tick / 10)
        out.append(
            f'<path d="M{at:.1f} {top - 10}V{height - 24}" stroke="#888" stroke-opacity=".3"/>'
            f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle">{tick * 10} %</text>'
        )
    methods = {one["arm"] for one in result["methods"]}
    for k, one in enumerate(rows):
        y, colour = top + step * k + 6, "#2f6fde" if one["arm"] in methods else "#c07a2b"
        ends = [one["gold_win_rate"] if math.isnan(one[e]) else one[e] for e in ("low", "high")]
        out.append(
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{one["arm"]}</text>'
            f'<path d="M{x(ends[0]):.1f} {y}H{x(ends[1]):.1f}" stroke="{colour}" '
            'stroke-width="2"/>'
            f'<circle cx="{x(one["gold_win_rate"]):.1f}" cy="{y}" r="4.5" fill="{colour}"/>'
            f'<text x="{x(ends[1]) + 10:.1f}" y="{y + 4}">{one["gold_win_rate"]:.3f}</text>'
        )
    return "\n".join([*out, "</svg>", ""])
