"""Ratings of players from who was preferred to whom: Bradley-Terry by maximum likelihood.

log-odds of i over j = rating_i - rating_j; a tie, or a share of votes, counts as that share of a
win. Meetings of one group (a prompt) are not independent, so the intervals are by the sandwich with
groups as clusters. Who never met anybody of the anchor's circle has no rating; where some have only
won or only lost, every pair that met is given a tenth of a win either way, or ratings would be
infinite.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from align.measure.pairs import sigmoid

PRIOR = 0.1  # wins either way of a pair that met, where somebody only wins or only loses
FEW = 10  # groups below which the sandwich is too hopeful to be used alone
LONGEST = 2.0  # step of a rating at once; from equal ratings a few of them reach anywhere
Z = NormalDist().inv_cdf(0.975)
ELO = 400 / math.log(10)  # points of one unit of log-odds on chess players' scale


@dataclass(frozen=True)
class Meeting:
    """Two players on one prompt; `p` is the share for the first, `longer` by how much its answer
    is longer."""

    first: Hashable
    second: Hashable
    p: float
    group: Hashable
    weight: float = 1.0
    longer: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"a share is between 0 and 1, not {self.p}")
        if self.first == self.second:
            raise ValueError("nobody meets themselves")


@dataclass(frozen=True)
class Rating:
    """In log-odds against the anchor, with its 95 % interval; the anchor's own is 0, exactly."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratings:
    """`steadied`: the tenth of a win was needed. Players outside the circle are not in `by`."""

    by: Mapping[Hashable, Rating]
    steadied: bool


def ratings(meetings: Sequence[Meeting], anchor: Hashable) -> Ratings:
    """Everybody's rating against the anchor, who alone is rated where there are no meetings."""
    circle = _reached(anchor, _edges(meetings, both=True))
    found = [m for m in meetings if m.first in circle and m.weight > 0]
    strong = all(
        _reached(anchor, _edges(found, turned=turned)) >= circle for turned in (False, True)
    )
    players = sorted(circle - {anchor}, key=str)
    if not players:
        return Ratings({anchor: Rating(0.0, 0.0, 0.0)}, False)
    place: dict[Hashable, int] = {player: k for k, player in enumerate(players)}
    wins = _wins(found, 0.0 if strong else PRIOR)
    values, information = _fitted(wins, place)
    covariance = inverse(information)
    robust = _sandwich(found, place, values, covariance)
    groups = len({m.group for m in found})
    by: dict[Hashable, Rating] = {anchor: Rating(0.0, 0.0, 0.0)}
    for player, k in place.items():
        variance = robust[k] if strong and groups >= FEW else max(robust[k], covariance[k][k])
        half = Z * math.sqrt(max(0.0, variance))
        by[player] = Rating(values[k], values[k] - half, values[k] + half)
    return Ratings(by, not strong)


def inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Of a square matrix by Gauss and Jordan with pivoting. Raises ValueError of a singular one."""
    size = len(matrix)
    rows = [
        [*map(float, row), *(float(i == k) for k in range(size))] for i, row in enumerate(matrix)
    ]
    for k in range(size):
        pivot = max(range(k, size), key=lambda i: abs(rows[i][k]))
        if abs(rows[pivot][k]) < 1e-300:
            raise ValueError("a singular matrix has no inverse")
        rows[k], rows[pivot] = rows[pivot], rows[k]
        scale = rows[k][k]
        rows[k] = [value / scale for value in rows[k]]
        for i in range(size):
            if i != k and rows[i][k]:
                factor = rows[i][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[size:] for row in rows]


Wins = Mapping[tuple[Hashable, Hashable], float]


def _wins(meetings: Iterable[Meeting], prior: float) -> Wins:
    """By (winner, loser), shares summed."""
    found: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for one in meetings:
        found[one.first, one.second] += one.weight * one.p
        found[one.second, one.first] += one.weight * (1 - one.p)
    return {pair: value + prior for pair, value in found.items()}


def _fitted(wins: Wins, place: Mapping[Hashable, int]) -> tuple[list[float], list[list[float]]]:
    """The likeliest ratings and their information, by Newton's method on a concave likelihood."""
    size = len(place)
    values = [0.0] * size
    for _ in range(200):
        slope = [0.0] * size
        information = [[0.0] * size for _ in range(size)]
        for (winner, loser), count in wins.items():
            i, j = place.get(winner), place.get(loser)
            p = sigmoid(_at(values, i) - _at(values, j))
            curve = count * p * (1 - p)
            for here, sign in ((i, 1.0), (j, -1.0)):
                if here is not None:
                    slope[here] += sign * count * (1 - p)
                    information[here][here] += curve
            if i is not None and j is not None:
                information[i][j] -= curve
                information[j][i] -= curve
        step = [sum(a * b for a, b in zip(row, slope, strict=True)) for row in inverse(information)]
        longest = max(abs(one) for one in step)
        scale = min(1.0, LONGEST / longest) if longest else 1.0
        values = [value + scale * one for value, one in zip(values, step, strict=True)]
        if longest < 1e-11:
            break
    return values, information


def _sandwich(
    meetings: Iterable[Meeting],
    place: Mapping[Hashable, int],
    values: Sequence[float],
    covariance: Sequence[Sequence[float]],
) -> list[float]:
    """Each rating's variance: that of its influence, groups as clusters, with G / (G - 1)."""
    slopes: dict[Hashable, list[float]] = {}
    for one in meetings:
        row = slopes.setdefault(one.group, [0.0] * len(values))
        i, j = place.get(one.first), place.get(one.second)
        off = one.weight * (one.p - sigmoid(_at(values, i) - _at(values, j)))
        if i is not None:
            row[i] += off
        if j is not None:
            row[j] -= off
    groups = len(slopes)
    found = [0.0] * len(values)
    for row in slopes.values():
        for k, line in enumerate(covariance):
            found[k] += sum(a * b for a, b in zip(line, row, strict=True)) ** 2
    return [value * groups / max(1, groups - 1) for value in found]


def _at(values: Sequence[float], place: int | None) -> float:
    return 0.0 if place is None else values[place]


def _edges(
    meetings: Iterable[Meeting], *, both: bool = False, turned: bool = False
) -> dict[Hashable, set[Hashable]]:
    """Who has won something from whom; of `both`, who met whom."""
    found: dict[Hashable, set[Hashable]] = defaultdict(set)
    for one in meetings:
        if not one.weight:
            continue
        for winner, loser, share in (
            (one.first, one.second, one.p),
            (one.second, one.first, 1 - one.p),
        ):
            if share or both:
                found[loser if turned else winner].add(winner if turned else loser)
    return found


def _reached(start: Hashable, edges: Mapping[Hashable, set[Hashable]]) -> set[Hashable]:
    seen, waiting = {start}, [start]
    while waiting:
        for one in edges.get(waiting.pop(), ()):
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return seen
