"""How sure a judge must be to be believed, and when to stop believing it.

The threshold is chosen on pairs that fitted nothing: the lowest confidence above which the error
rate, at its exact upper bound, is at most what was promised. Several thresholds are tried, so each
one's bound has its share of the doubt. Afterwards people go on looking at a random slice, and the
watch is a test that may be looked at after every vote: a bet against the promise
(arXiv:2010.09686), whose capital exceeds 1 / doubt with a chance of `doubt` at most while the
promise holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.measure.concordance import agreed
from align.measure.means import upper_bound

STEPS = 10  # thresholds tried, by equal shares of the pairs
DOUBT = 0.05
STAKES = (0.125, 0.25, 0.5, 0.9)  # of 1 / rate, the most that can be staked; equal parts of each


@dataclass(frozen=True)
class Threshold:
    """The judge is believed where |p - 1/2| is above `above`: on `share` of the pairs, with at most
    `bound` errors, `errors` of `pairs` having been seen."""

    above: float
    share: float
    errors: float
    pairs: int
    bound: float


@dataclass(frozen=True)
class Watch:
    """What people said of the judge's confident word so far; `broken` once the promise is."""

    pairs: int
    errors: float
    capital: float
    broken: bool

    @property
    def rate(self) -> float:
        return self.errors / self.pairs if self.pairs else 0.0


def threshold(
    chances: Sequence[float],
    majorities: Sequence[float],
    rate: float,
    doubt: float = DOUBT,
) -> Threshold | None:
    """The lowest that keeps the promise; None where none does. majorities: 1, 0, or 1/2 for a tie,
    which is half an error whatever the judge says. A chance of 1/2 is never confident."""
    found = sorted(
        ((abs(p - 0.5), 1 - agreed(p, y)) for p, y in zip(chances, majorities, strict=True)),
        reverse=True,
    )
    best = None
    for step in range(1, STEPS + 1):
        at = len(found) * step // STEPS
        if not at:
            continue
        # The pair that stands at the edge is left out, and so is whatever is as sure as it.
        above = found[at][0] if at < len(found) else 0.0
        some = [error for sure, error in found if sure > above]
        bound = upper_bound(sum(some), len(some), doubt / STEPS)
        if some and bound <= rate:
            best = Threshold(above, len(some) / len(found), sum(some), len(some), bound)
    return best


def watch(
    errors: Sequence[float], promised: float | Sequence[float], doubt: float = DOUBT
) -> Watch:
    """errors: 1, 0 or 1/2 of each pair in the order in which people spoke, 0 where they agreed.
    promised: the rate, one for all or of each pair its own, told before anybody spoke."""
    rates = [promised] * len(errors) if isinstance(promised, float | int) else promised
    capitals = [1.0] * len(STAKES)
    most = 1.0
    for error, told in zip(errors, rates, strict=True):
        rate = max(told, 1e-3)
        capitals = [
            capital * (1 + stake / rate * (error - rate))
            for capital, stake in zip(capitals, STAKES, strict=True)
        ]
        most = max(most, sum(capitals) / len(capitals))
    return Watch(len(errors), sum(errors), most, most >= 1 / doubt)
