"""How far people agree beyond chance: raw, Cohen, Krippendorff, Gwet; Kendall for rankings.

Labels speak of answers, never of screen sides: +s where the first of two answers was preferred with
strength s, -s for the second, 0 for a tie. Which answer is called first is arbitrary, so with
`exchangeable` each comparison counts half under either naming: the figures then cannot depend on
it. A figure that the data do not define is None, and says why. Nobody is judged by it alone: alpha
of 0.2 to 0.5 is usual for honest preferences.

Sources: Cohen 1960, 1968; Krippendorff 2011 (Computing Krippendorff's Alpha-Reliability); Gwet
2008; Kendall and Smith 1939.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Literal

from plumbline.collect.quality.intervals import Estimate, Terms, bootstrap

Label = float
Unit = Sequence[Label]  # what the people who judged one thing said of it
Cluster = Sequence[Unit]  # the units of one comparison: one for a pair, one each pair for more
Level = Literal["nominal", "ordinal", "interval"]
Sums = Sequence[float]

NO_SHARED = "Nobody has judged the same comparison as somebody else yet."
ONE_LABEL = "Everybody gave the same label to everything, so chance agreement is certain."
ONE_PERSON = "It takes two people who judged the same comparisons."
NO_ORDER = "It takes rankings of the same answers by two people, not all of them ties."


def raw(clusters: Iterable[Cluster]) -> Estimate:
    """The share of pairs of people who gave one unit the same label."""

    def terms(cluster: Cluster) -> Terms:
        units = [unit for unit in cluster if len(unit) > 1]
        return math.fsum(_same(unit) for unit in units), float(len(units))

    return bootstrap(_shared(clusters, terms), lambda s: s[0] / s[1] if s[1] else None, NO_SHARED)


def alpha(
    clusters: Sequence[Cluster], level: Level = "nominal", *, exchangeable: bool = False
) -> Estimate:
    """Krippendorff's alpha = 1 - Do/De; units with one label say nothing and are left out."""
    labels = _labels(clusters, exchangeable)
    pairs = [(a, b) for a in range(len(labels)) for b in range(len(labels))]
    place = {label: k for k, label in enumerate(labels)}

    def of_unit(unit: Unit) -> dict[int, float]:
        """Ordered pairs of labels within the unit, each 1 / (labels - 1)."""
        found: dict[int, float] = defaultdict(float)
        for a, b in permutations([place[label] for label in unit], 2):
            found[a * len(labels) + b] += 1 / (len(unit) - 1)
        return found

    def figure(sums: Sums) -> float | None:
        return _alpha(sums, labels, pairs, level)

    counted = _counted(of_unit, len(pairs), exchangeable)
    found = bootstrap(_shared(clusters, counted), figure, ONE_LABEL)
    return found if found.n else Estimate(None, why=NO_SHARED)


def ac1(clusters: Sequence[Cluster], *, exchangeable: bool = False) -> Estimate:
    """Gwet's AC1, for when one label dominates: chance agreement sum pi (1 - pi) / (q - 1)."""
    labels = _labels(clusters, exchangeable)
    place = {label: k for k, label in enumerate(labels)}

    def of_unit(unit: Unit) -> dict[int, float]:
        found: dict[int, float] = defaultdict(float)
        for label in unit:
            found[2 + place[label]] += 1 / len(unit)
        if len(unit) > 1:
            found[0] += _same(unit)
            found[1] += 1
        return found

    def figure(sums: Sums) -> float | None:
        total = math.fsum(sums[2:])
        if not sums[1] or not total:
            return None
        shares = [one / total for one in sums[2:]]
        if max(shares) > 1 - 1e-9:
            return None
        chance = math.fsum(pi * (1 - pi) for pi in shares) / (len(shares) - 1)
        return (sums[0] / sums[1] - chance) / (1 - chance)

    if not any(len(unit) > 1 for cluster in clusters for unit in cluster):
        return Estimate(None, why=NO_SHARED)
    counted = _counted(of_unit, 2 + len(labels), exchangeable)
    return bootstrap([counted(cluster) for cluster in clusters], figure, ONE_LABEL)


def cohen(
    clusters: Sequence[Cluster],
    weights: Literal["none", "linear", "quadratic"] = "none",
    *,
    exchangeable: bool = False,
) -> Estimate:
    """Cohen's kappa of two people, weighted for graded labels; a unit holds the label of the one,
    then the other's."""
    labels = _labels(clusters, exchangeable)
    place, q = {label: k for k, label in enumerate(labels)}, len(labels)

    def of_unit(unit: Unit) -> dict[int, float]:
        return {place[unit[0]] * q + place[unit[1]]: 1.0}

    def weight(a: int, b: int) -> float:
        """How far two labels disagree: 0 not at all."""
        apart = abs(labels[a] - labels[b])
        return float(a != b) if weights == "none" else apart if weights == "linear" else apart**2

    def figure(sums: Sums) -> float | None:
        total = math.fsum(sums)
        if not total:
            return None
        rows = [math.fsum(sums[a * q : (a + 1) * q]) / total for a in range(q)]
        columns = [math.fsum(sums[b::q]) / total for b in range(q)]
        cells = [(a, b, weight(a, b)) for a in range(q) for b in range(q)]
        chance = math.fsum(w * rows[a] * columns[b] for a, b, w in cells)
        seen = math.fsum(w * sums[a * q + b] / total for a, b, w in cells)
        return 1 - seen / chance if chance > 1e-12 else None

    counted = _counted(of_unit, q * q, exchangeable)
    found = bootstrap(_shared(clusters, counted), figure, ONE_LABEL)
    return found if found.n else Estimate(None, why=ONE_PERSON)


def kendall_w(rankings: Iterable[Sequence[Sequence[float]]]) -> Estimate:
    """Mean coefficient of concordance over comparisons. Each brings its people's rankings: the
    place of each answer, tied answers sharing their mean place."""
    found = [w for one in rankings if (w := concordance(one)) is not None]
    return bootstrap([(w, 1.0) for w in found], lambda s: s[0] / s[1], NO_ORDER)


def concordance(rankings: Sequence[Sequence[float]]) -> float | None:
    """Kendall's W of m rankings of the same k answers, corrected for ties; 1 is full agreement."""
    m = len(rankings)
    if m < 2:
        return None
    k = len(rankings[0])
    sums = [math.fsum(places) for places in zip(*rankings, strict=True)]
    mean = math.fsum(sums) / k
    ties = sum(t**3 - t for ranking in rankings for t in Counter(ranking).values())
    most = m * m * (k**3 - k) - m * ties
    return 12 * math.fsum((one - mean) ** 2 for one in sums) / most if most else None


def tau_b(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b of two rankings of the same answers; None where one of them is all ties."""
    concordant = tied_first = tied_second = 0
    pairs = list(combinations(range(len(first)), 2))
    for i, j in pairs:
        a, b = first[i] - first[j], second[i] - second[j]
        concordant += (a * b > 0) - (a * b < 0)
        tied_first += a == 0
        tied_second += b == 0
    norm = math.sqrt((len(pairs) - tied_first) * (len(pairs) - tied_second))
    return concordant / norm if norm else None


def places(ranking: Iterable[Sequence[int]]) -> list[float]:
    """The place of each slot, 1 the best, from tie groups of slots; ties share their mean place."""
    found: dict[int, float] = {}
    for group in ranking:
        found |= dict.fromkeys(group, len(found) + (len(group) + 1) / 2)
    return [found[slot] for slot in sorted(found)]


def _alpha(
    sums: Sums, labels: Sequence[Label], pairs: Sequence[tuple[int, int]], level: Level
) -> float | None:
    q = len(labels)
    totals = [math.fsum(sums[a * q : (a + 1) * q]) for a in range(q)]
    n = math.fsum(totals)
    seen = expected = 0.0
    for a, b in pairs:
        apart = _apart(a, b, labels, totals, level)
        seen += sums[a * q + b] * apart
        expected += totals[a] * totals[b] * apart
    if expected <= 1e-12:
        return None
    return 1 - (n - 1) * seen / expected


def _apart(a: int, b: int, labels: Sequence[Label], totals: Sequence[float], level: Level) -> float:
    """Krippendorff's squared difference of two labels."""
    if a == b:
        return 0.0
    if level == "nominal":
        return 1.0
    if level == "interval":
        return (labels[a] - labels[b]) ** 2
    low, high = min(a, b), max(a, b)
    between = math.fsum(totals[low : high + 1])
    return (between - (totals[low] + totals[high]) / 2) ** 2


def _same(unit: Unit) -> float:
    """The share of pairs of labels in a unit that are equal."""
    m = len(unit)
    return sum(count * (count - 1) for count in Counter(unit).values()) / (m * (m - 1))


def _labels(clusters: Iterable[Cluster], exchangeable: bool) -> list[Label]:
    found = {label for cluster in clusters for unit in cluster for label in unit}
    return sorted(found | {-label for label in found} if exchangeable else found)


def _counted(
    of_unit: Callable[[Unit], Mapping[int, float]], size: int, exchangeable: bool
) -> Callable[[Cluster], Terms]:
    """A comparison's terms from its units', each unit worked out once however often it occurs."""
    known: dict[tuple[Label, ...], Mapping[int, float]] = {}

    def unit_terms(unit: tuple[Label, ...]) -> Mapping[int, float]:
        if unit not in known:
            found: dict[int, float] = defaultdict(float)
            namings = [unit, tuple(-label for label in unit)] if exchangeable else [unit]
            for one in namings:
                for k, value in of_unit(one).items():
                    found[k] += value / len(namings)
            known[unit] = found
        return known[unit]

    def terms(cluster: Cluster) -> Terms:
        total = [0.0] * size
        for unit in cluster:
            for k, value in unit_terms(tuple(unit)).items():
                total[k] += value
        return tuple(round(value, 9) for value in total)  # so that equal terms are equal

    return terms


def _shared(clusters: Iterable[Cluster], terms: Callable[[Cluster], Terms]) -> list[Terms]:
    """The terms of the comparisons in which anything can be compared."""
    found = (terms(cluster) for cluster in clusters)
    return [one for one in found if any(one)]
