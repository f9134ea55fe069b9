"""Whether people favour a side of the screen: logit P(left) = s_left - s_right + b.

How much better one answer is, s, differs from comparison to comparison and is not known; it is
taken as normal around zero (which answer is called first is arbitrary) with a spread that is
estimated with b, and integrated out. Ties say nothing of a side: in Davidson's (1970) model a
preference given no tie is exactly this logistic one. Where no comparison has two votes the spread
cannot be known, and the fit without it draws b towards zero: `spread` is then None.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.collect.quality.intervals import Z95

# The standard normal as points half a standard deviation apart: the trapezoid rule is exact to
# eight digits for integrands as smooth as these.
POINTS = [k / 2 for k in range(-9, 10)]
LOG_WEIGHTS = [-z * z / 2 + math.log(0.5 / math.sqrt(2 * math.pi)) for z in POINTS]
STEPS, TOLERANCE = 60, 1e-6
NARROW = 0.01  # of the logarithm of the spread
PRIOR = 2.0  # standard deviation of b before any vote, so that "always left" has a finite estimate
SPREADS = (0.05, 5.0)  # between which the spread is looked for

Pattern = tuple[int, int, int, int]  # votes with the first answer left: for left, for right; ...
NOTHING: Pattern = (0, 0, 0, 0)


@dataclass(frozen=True)
class Sided:
    """A preference for one of two answers."""

    comparison: int
    rater: int
    first_left: bool  # whether the comparison's first answer was shown on the left
    left: bool  # whether the answer on the left was preferred

    @property
    def cell(self) -> int:
        return 2 * (not self.first_left) + (not self.left)


@dataclass(frozen=True)
class Bias:
    """Log-odds in favour of the left, with a 95 % interval and the number of preferences."""

    b: float
    low: float
    high: float
    n: int
    spread: float | None  # of answers' quality within a comparison, in log-odds

    @property
    def share(self) -> float:
        """How often the left would win between equal answers."""
        return _sigma(self.b)

    def alerts(self, threshold: float) -> bool:
        """Whether the bias is as large as that and surely on one side."""
        return abs(self.b) > threshold and not self.low <= 0 <= self.high


def overall(votes: Iterable[Sided]) -> Bias | None:
    """The bias of everybody together; None without a preference."""
    patterns = Counter(_patterns(votes).values())
    n = sum(sum(pattern) * count for pattern, count in patterns.items())
    if not n:
        return None
    cells = [Cell(pattern, LOG_WEIGHTS, count) for pattern, count in patterns.items()]
    spread = _spread(cells) if any(sum(pattern) > 1 for pattern in patterns) else None
    # Near b = 0 the likelihood is even in b, so the spread's own uncertainty does not widen this.
    return _bias(*_fit(cells, spread or 0.0)[:2], n, spread)


def by_rater(votes: Sequence[Sided], everybody: Bias) -> dict[int, Bias]:
    """Each person's own bias; what others preferred among the same answers tells s."""
    patterns, spread = _patterns(votes), everybody.spread or 0.0
    own: dict[int, dict[int, Pattern]] = defaultdict(dict)
    for vote in votes:
        said = own[vote.rater]
        said[vote.comparison] = _add(said.get(vote.comparison, NOTHING), vote.cell)
    sides = _sides(everybody.b, spread)
    known: dict[Pattern, list[float]] = {}
    found = {}
    for rater, said in own.items():
        kinds: Counter[tuple[Pattern, Pattern]] = Counter()
        for comparison, mine in said.items():
            kinds[mine, _less(patterns[comparison], mine)] += 1
        cells = []
        for (mine, others), count in kinds.items():
            if others not in known:
                known[others] = _given(others, sides)
            cells.append(Cell(mine, known[others], count))
        b, information, _ = _fit(cells, spread, everybody.b)
        found[rater] = _bias(b, information, sum(map(sum, said.values())), everybody.spread)
    return found


@dataclass(frozen=True)
class Cell:
    """Comparisons that are alike: what was said, how likely each s was before, and how many."""

    pattern: Pattern
    log_prior: Sequence[float]  # by point of s
    count: int


Side = tuple[float, float, float, float, float, float]


def _sides(b: float, spread: float) -> list[Side]:
    """At each point of s: the logarithms of the four cells' probabilities, and P(left) with the
    first answer on the left and on the right."""
    found = []
    for z in POINTS:
        first, second = spread * z + b, -spread * z + b
        logs = (_log_sigma(first), _log_sigma(-first), _log_sigma(second), _log_sigma(-second))
        found.append((*logs, _sigma(first), _sigma(second)))
    return found


def _given(pattern: Pattern, sides: Sequence[Side]) -> list[float]:
    """The logarithm of how likely each s is, up to a constant, once `pattern` was said."""
    a, b, c, d = pattern
    return [
        prior + a * one[0] + b * one[1] + c * one[2] + d * one[3]
        for prior, one in zip(LOG_WEIGHTS, sides, strict=True)
    ]


def _slopes(cells: Iterable[Cell], b: float, spread: float) -> tuple[float, float, float]:
    """The log-posterior of b, its first derivative, and its second with the sign turned."""
    sides = _sides(b, spread)
    value, slope, curve = -((b / PRIOR) ** 2) / 2, -b / PRIOR**2, 1 / PRIOR**2
    for cell in cells:
        n1, n2, n3, n4 = cell.pattern
        total = first = second = 0.0
        for prior, one in zip(cell.log_prior, sides, strict=True):
            here = math.exp(prior + n1 * one[0] + n2 * one[1] + n3 * one[2] + n4 * one[3])
            p, q = one[4], one[5]
            gradient = n1 + n3 - (n1 + n2) * p - (n3 + n4) * q
            total += here
            first += here * gradient
            second += here * (gradient**2 - (n1 + n2) * p * (1 - p) - (n3 + n4) * q * (1 - q))
        mean = first / total
        value += cell.count * math.log(total)
        slope += cell.count * mean
        curve -= cell.count * (second / total - mean**2)
    return value, slope, curve


def _fit(cells: Sequence[Cell], spread: float, b: float = 0.0) -> tuple[float, float, float]:
    """Newton's method: the b of the highest posterior, the information there, and its value."""
    value, slope, curve = _slopes(cells, b, spread)
    for _ in range(STEPS):
        step = slope / curve if curve > 0 else math.copysign(0.5, slope)
        step = max(-1.0, min(1.0, step))
        if abs(step) < TOLERANCE:
            break
        b += step
        value, slope, curve = _slopes(cells, b, spread)
    return b, max(curve, 1 / PRIOR**2), value


def _spread(cells: Sequence[Cell]) -> float:
    """The spread of the highest likelihood, b fitted to each: a golden-section search."""
    low, high = (math.log(one) for one in SPREADS)
    golden, b = (math.sqrt(5) - 1) / 2, 0.0

    def height(at: float) -> float:
        nonlocal b  # the next fit starts where this one ends
        b, _, value = _fit(cells, math.exp(at), b)
        return value

    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = height(left), height(right)
    while high - low > NARROW:
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = height(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = height(right)
    return math.exp((low + high) / 2)


def _bias(b: float, information: float, n: int, spread: float | None) -> Bias:
    half = Z95 / math.sqrt(information)
    return Bias(b, b - half, b + half, n, spread)


def _patterns(votes: Iterable[Sided]) -> dict[int, Pattern]:
    found: dict[int, Pattern] = {}
    for vote in votes:
        found[vote.comparison] = _add(found.get(vote.comparison, NOTHING), vote.cell)
    return found


def _add(pattern: Pattern, cell: int) -> Pattern:
    a, b, c, d = (count + (place == cell) for place, count in enumerate(pattern))
    return a, b, c, d


def _less(pattern: Pattern, taken: Pattern) -> Pattern:
    a, b, c, d = (count - less for count, less in zip(pattern, taken, strict=True))
    return a, b, c, d


def _sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigma(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))
