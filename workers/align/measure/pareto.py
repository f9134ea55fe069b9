"""Which of several points no other one beats, and how much of the space they command together.

A point has a figure for each objective, more being better.
"""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]


def front(points: Sequence[Point]) -> list[bool]:
    """Of each point, whether no other is as good in everything and better in something."""
    return [not any(_beats(other, one) for other in points) for one in points]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume between `reference` and the points, exactly: slice by slice along the last
    objective (While et al. 2006). Points that are not above the reference in everything command
    nothing. For few points and objectives; it grows with a power of their number."""
    above = [one for one in points if all(a > b for a, b in zip(one, reference, strict=True))]
    if not above:
        return 0.0
    if len(reference) == 1:
        return max(one[0] for one in above) - reference[0]
    heights = sorted({one[-1] for one in above}, reverse=True)
    floors = [*heights[1:], reference[-1]]
    volume = 0.0
    for height, floor in zip(heights, floors, strict=True):
        slice = [one[:-1] for one in above if one[-1] >= height]
        volume += (height - floor) * hypervolume(slice, reference[:-1])
    return volume


def scaled(points: Sequence[Point]) -> list[list[float]]:
    """Each objective from 0, the worst of the points, to 1, the best; 0.5 where all are alike.
    Volumes of objectives in their own units would say which units they have."""
    ends = [(min(column), max(column)) for column in zip(*points, strict=True)]
    return [
        [
            (x - low) / (high - low) if high > low else 0.5
            for x, (low, high) in zip(one, ends, strict=True)
        ]
        for one in points
    ]


def _spread(column: Sequence[float]) -> list[float]:
    low, high = min(column), max(column)
    return [(x - low) / (high - low) if high > low else 0.5 for x in column]


def _beats(one: Point, other: Point) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
