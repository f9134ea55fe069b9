"""Small pictures of a session, as data for SVG: traces of components, and the tree of programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.evolve.models import Evolution, Program

WIDE, HIGH, EDGE = 96, 28, 4  # of a trace
COLUMN, ROW, LEFT, TOP = 132, 44, 64, 40  # of the tree


@dataclass(frozen=True)
class Trace:
    """One component's figures, and the line of its trace; "" of one with a single point."""

    name: str
    figures: Mapping[str, Any]
    values: list[tuple[int, float]]  # n, mean of what the best of n scores
    line: str
    end: tuple[float, float]


def traces(report: Mapping[str, Any]) -> list[Trace]:
    """Of every component, then of the total."""
    if not report:
        return []
    points = report["points"]
    rows = [*report["components"].items(), ("total", report["total"])]
    return [_trace(name, one, points) for name, one in rows]


def _trace(name: str, figures: Mapping[str, Any], points: Sequence[int]) -> Trace:
    values = figures["trace"]
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = high - low or 1.0
    step = (WIDE - 2 * EDGE) / max(1, len(values) - 1)
    places = [
        (EDGE + k * step, HIGH - EDGE - (value - low) / span * (HIGH - 2 * EDGE))
        for k, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places) if len(places) > 1 else ""
    end = places[-1] if places else (0.0, 0.0)
    return Trace(name, figures, list(zip(points, values, strict=True)), line, end)


@dataclass(frozen=True)
class Node:
    program: Program
    x: int
    y: int


@dataclass(frozen=True)
class Tree:
    """Programs in columns by generation, and the lines from each to the good one it came from."""

    nodes: list[Node]
    columns: list[tuple[int, int]]  # number, x
    edges: list[tuple[str, bool]]  # path, whether it leads to a good program
    width: int
    height: int


def tree(evolution: Evolution) -> Tree:
    """Of all programs that ran; those that were refused have no place in it."""
    programs = Program.objects.filter(generation__evolution=evolution).exclude(
        status__in=(Program.Status.INVALID, Program.Status.DRAFT)
    )
    found = programs.select_related("generation").order_by("generation__number", "arm", "attempt")
    numbers = sorted({one.generation.number for one in found})
    rows: dict[int, int] = {}
    nodes: dict[int, Node] = {}
    for one in found:
        row = rows.get(one.generation.number, 0)
        rows[one.generation.number] = row + 1
        x = LEFT + COLUMN * numbers.index(one.generation.number)
        nodes[one.pk] = Node(one, x, TOP + ROW * row + ROW // 2)
    edges = []
    for node in nodes.values():
        parent = nodes.get(node.program.good_parent_id or 0)
        if parent is not None:
            middle = (parent.x + node.x) // 2
            path = f"M{parent.x} {parent.y}C{middle} {parent.y} {middle} {node.y} {node.x} {node.y}"
            edges.append((path, node.program.status == Program.Status.GOOD))
    return Tree(
        nodes=list(nodes.values()),
        columns=[(number, LEFT + COLUMN * k) for k, number in enumerate(numbers)],
        edges=sorted(edges, key=lambda one: one[1]),
        width=2 * LEFT + COLUMN * max(0, len(numbers) - 1),
        height=TOP + ROW * max(rows.values(), default=1),
    )
