"""Which pairs tell a linear reward model most: greedy D-optimal design, in plain Python.

A vote on two answers whose features differ by z, foretold with chance p, adds p (1 - p) z z^T to
the Fisher information H of a Bradley-Terry model that is linear in them; log det H says how small
the ellipsoid of weights is that votes leave (ADPO, arXiv:2503.01076, does so at a policy's last
layer). Gains never grow as pairs are taken, so most are not computed again.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

Vector = Sequence[float]


@dataclass(frozen=True)
class Candidate:
    """A pair that could be asked about: z, the difference of its answers' features; `variance`,
    p (1 - p) of its vote. At most one is taken of a `prompt`, and of a `cluster` as many as its
    quota."""

    prompt: int
    z: Vector
    variance: float = 0.25
    cluster: int = 0


@dataclass(frozen=True)
class Taken:
    index: int  # of the candidate
    gain: float  # in log det H, nats


class Information:
    """H = ridge * I at first; its inverse is kept up to date by Sherman and Morrison's formula."""

    def __init__(self, dims: int, ridge: float = 1.0) -> None:
        assert dims > 0
        assert ridge > 0
        self._ridge = ridge
        self.logdet = dims * math.log(ridge)
        self._inverse = [[float(i == j) / ridge for j in range(dims)] for i in range(dims)]

    def most(self, z: Vector, variance: float) -> float:
        """What the pair would gain before all others: no less than it does now, and cheap."""
        return math.log1p(variance * _dot(z, z) / self._ridge)

    def gain(self, z: Vector, variance: float) -> float:
        """log det(H + variance z z^T) - log det H = log(1 + variance z^T H^-1 z)."""
        return math.log1p(variance * max(0.0, _dot(z, self._solved(z))))

    def add(self, z: Vector, variance: float) -> float:
        """H + variance z z^T from here on; what that gained."""
        solved = self._solved(z)
        grown = 1 + variance * max(0.0, _dot(z, solved))
        for row, value in zip(self._inverse, solved, strict=True):
            if value:
                by = variance * value / grown
                row[:] = [old - by * other for old, other in zip(row, solved, strict=True)]
        gain = math.log(grown)
        self.logdet += gain
        return gain

    def _solved(self, z: Vector) -> list[float]:
        return [_dot(row, z) for row in self._inverse]


def greedy(
    candidates: Sequence[Candidate],
    wanted: int,
    information: Information,
    quota: Mapping[int, int] | None = None,
) -> list[Taken]:
    """Up to `wanted` candidates, each the one of largest gain after those before it; what
    they tell is added to `information`. Candidates that tell nothing are never taken."""
    heap = []
    for index, one in enumerate(candidates):
        score = information.most(one.z, one.variance)
        if score > 0:
            heap.append((-score, index, -1))
    heapq.heapify(heap)
    taken: list[Taken] = []
    asked: set[int] = set()
    full: Counter[int] = Counter()
    while heap and len(taken) < wanted:
        _, index, seen = heapq.heappop(heap)
        one = candidates[index]
        if one.prompt in asked or (quota is not None and full[one.cluster] >= quota[one.cluster]):
            continue
        if seen < len(taken):  # its gain is older than the last pair, or never was computed
            score = information.gain(one.z, one.variance)
            if score > 0:
                heapq.heappush(heap, (-score, index, len(taken)))
            continue
        taken.append(Taken(index, information.add(one.z, one.variance)))
        asked.add(one.prompt)
        full[one.cluster] += 1
    return taken


def clusters(points: Mapping[int, Vector], count: int) -> dict[int, int]:
    """Each point's cluster: that of the nearest of `count` centres, which lie far apart (Gonzalez's
    farthest-first choice; the first centre is the point nearest to the mean)."""
    if not points:
        return {}
    names = list(points)
    mean = [sum(column) / len(names) for column in zip(*points.values(), strict=True)]
    centre = min(names, key=lambda name: _apart(points[name], mean))
    nearest = {name: (_apart(points[name], points[centre]), 0) for name in names}
    for number in range(1, min(count, len(names))):
        centre = max(names, key=lambda name: nearest[name][0])
        if nearest[centre][0] == 0:
            break
        for name in names:
            nearest[name] = min(nearest[name], (_apart(points[name], points[centre]), number))
    return {name: number for name, (_, number) in nearest.items()}


def quotas(of: Iterable[int], wanted: int, times: float = 2.0) -> dict[int, int]:
    """How many of `wanted` pairs each cluster may have: `times` its share of the points."""
    sizes = Counter(of)
    total = sum(sizes.values())
    return {name: math.ceil(times * wanted * size / total) for name, size in sizes.items()}


def _dot(a: Vector, b: Vector) -> float:
    found: float = sum(map(mul, a, b))
    return found


def _apart(a: Vector, b: Vector) -> float:
    return math.dist(a, b)
