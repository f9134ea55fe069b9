"""How well scores foretell votes: accuracy, log-loss, calibration, temperature.

A vote is a pair of answers with the share p of people who put the first before the second; a reward
model says sigmoid(margin / temperature), margin being the first's score less the second's. All
figures are weighted, and none changes when a pair is turned around.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

BINS = 10
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures: votes all foretold, or all contradicted, have no best
DOUBT = 0.5  # of the logarithm of a temperature before any vote is seen: within 2.7 times of 1
FAR = 10.0  # a temperature that is put to use is no further from 1, either way


@dataclass(frozen=True)
class Pair:
    """One voted pair as a model sees it. Pairs of a `group` (a prompt) are not independent."""

    margin: float  # score of the first answer less the second's
    p: float  # share of the votes for the first; 0.5 is a tie
    weight: float = 1.0
    group: str = ""
    longer: float = 0.0  # length of the first answer less the second's

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"a share of votes is between 0 and 1, not {self.p}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"a weight is 0 or more, not {self.weight}")
        if not math.isfinite(self.margin):
            raise ValueError(f"a margin of {self.margin} is not a number to compare")


@dataclass(frozen=True)
class Bin:
    """Pairs about which the model was about equally sure."""

    confidence: float  # mean P(its favourite is better)
    share: float  # how often its favourite won, a tie counting half
    weight: float


@dataclass(frozen=True)
class Belief:
    """What is thought of a temperature: its logarithm is normal about that of `value`."""

    value: float = 1.0
    spread: float = DOUBT

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Belief:
        """What a reward job's result says before any held-out vote is seen."""
        if "temperature" not in result:
            return cls()
        return cls(result["temperature"], result["temperature_doubt"])


UNKNOWN = Belief()


def accuracy(pairs: Sequence[Pair]) -> float | None:
    """Weighted share of decided votes that the scores order as people did, equal scores half right.
    None where no vote decides anything."""
    decided = [pair for pair in pairs if pair.p != 0.5 and pair.weight]
    total = sum(pair.weight for pair in decided)
    if not total:
        return None
    return (
        sum(pair.weight * (1 + sign(pair.margin) * sign(pair.p - 0.5)) / 2 for pair in decided)
        / total
    )


def log_loss(pairs: Sequence[Pair], temperature: float = 1.0) -> float | None:
    """Mean cross-entropy of the votes under sigmoid(margin / temperature), in nats."""
    total = sum(pair.weight for pair in pairs)
    if not total:
        return None
    found = 0.0
    for pair in pairs:
        margin = pair.margin / temperature
        found += pair.weight * (pair.p * softplus(-margin) + (1 - pair.p) * softplus(margin))
    return found / total


def reliability(pairs: Sequence[Pair], temperature: float = 1.0, bins: int = BINS) -> list[Bin]:
    """The reliability curve: pairs in equal steps of confidence from 1/2 to 1, empty ones left out.

    Confidence is in the model's favourite of the two, so the curve is the same however pairs are
    written down. Equal scores are a confidence of 1/2 that is right half of the time.
    """
    if bins < 1:
        raise ValueError(f"a curve needs at least 1 bin, not {bins}")
    sums = [[0.0, 0.0, 0.0] for _ in range(bins)]
    for pair in pairs:
        confidence = sigmoid(abs(pair.margin) / temperature)
        won = 0.5 + sign(pair.margin) * (pair.p - 0.5)
        at = sums[min(bins - 1, int((confidence - 0.5) * 2 * bins))]
        for place, value in enumerate((confidence, won, 1.0)):
            at[place] += pair.weight * value
    return [Bin(c / weight, won / weight, weight) for c, won, weight in sums if weight]


def ece(pairs: Sequence[Pair], temperature: float = 1.0, bins: int = BINS) -> float | None:
    """Expected calibration error: the curve's mean distance from the diagonal, by weight
    (arXiv:1706.04599)."""
    curve = reliability(pairs, temperature, bins)
    total = sum(one.weight for one in curve)
    if not total:
        return None
    return sum(one.weight * abs(one.confidence - one.share) for one in curve) / total


def calibration_error(pairs: Sequence[Pair], bins: int = BINS) -> float | None:
    """The root of the mean squared distance from the diagonal over bins of about equal weight, less
    what chance alone puts there (arXiv:1909.10155); of perfect calibration it is 0 on average
    before the root, where the plain error is the larger the fewer votes there are. Below 0 is 0.
    None of fewer than two votes a bin."""
    rows = sorted((pair for pair in pairs if pair.weight), key=lambda pair: abs(pair.margin))
    if len(rows) < 2 * bins:
        return None
    found, total = 0.0, sum(pair.weight for pair in rows)
    for at in range(bins):
        some = rows[at * len(rows) // bins : (at + 1) * len(rows) // bins]
        weight = sum(pair.weight for pair in some)
        off = [
            pair.weight
            * (0.5 + sign(pair.margin) * (pair.p - 0.5) - sigmoid(abs(pair.margin)))
            / weight
            for pair in some
        ]
        mean = sum(off)
        chance = sum(
            (one - mean * pair.weight / weight) ** 2 for one, pair in zip(off, some, strict=True)
        )
        found += weight * (mean**2 - chance * len(some) / (len(some) - 1))
    return math.sqrt(max(0.0, found / total))


def brier(pairs: Sequence[Pair]) -> float | None:
    """Mean squared distance of the chance given to the first answer from the share of votes."""
    total = sum(pair.weight for pair in pairs)
    if not total:
        return None
    return sum(pair.weight * (sigmoid(pair.margin) - pair.p) ** 2 for pair in pairs) / total


def best_temperature(pairs: Sequence[Pair]) -> float:
    """The temperature of least log-loss (arXiv:1706.04599), found by halving: log-loss is convex in
    1 / temperature. Within [COLDEST, HOTTEST]; HOTTEST where the scores know nothing."""

    def slope(inverse: float) -> float:
        return sum(
            pair.weight * pair.margin * (sigmoid(inverse * pair.margin) - pair.p) for pair in pairs
        )

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    for _ in range(80):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def shrunk_temperature(pairs: Sequence[Pair], before: Belief = UNKNOWN) -> float:
    """The temperature to use: likeliest after these votes, and before them as `before` has it.
    Without votes it is that, a few hardly move it, and of many it is the best one. Within 1 / FAR
    and FAR, found by halving."""

    def slope(log: float) -> float:
        inverse = math.exp(log)
        loss = sum(
            pair.weight * pair.margin * (sigmoid(inverse * pair.margin) - pair.p) for pair in pairs
        )
        return inverse * loss + (log + math.log(before.value)) / before.spread**2

    low, high = -math.log(FAR), math.log(FAR)
    if slope(low) >= 0:
        return FAR
    if slope(high) <= 0:
        return 1 / FAR
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def believed(pairs: Sequence[Pair], before: Belief = UNKNOWN) -> Belief:
    """What is thought of the temperature after these votes; the spread is by Fisher's
    information."""
    value = shrunk_temperature(pairs, before)
    information = 1 / before.spread**2
    for pair in pairs:
        margin = pair.margin / value
        information += pair.weight * margin**2 * sigmoid(margin) * sigmoid(-margin)
    return Belief(value, information**-0.5)


def turned(pair: Pair) -> Pair:
    """The same vote with its answers in the other order."""
    return replace(pair, margin=-pair.margin, p=1 - pair.p, longer=-pair.longer)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    """log(1 + e^x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sign(x: float) -> int:
    return (x > 0) - (x < 0)
