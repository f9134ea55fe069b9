"""How often one policy beats another, and how sure that is. Pure functions of outcomes.

A tie counts half. The interval is Wilson's score interval with the variance that ties leave:
for outcomes in {0, 1/2, 1} with mean m and tie share t, the variance is m(1 - m) - t/4, and the
interval holds every m with (rate - m)^2 <= z^2 (m(1 - m) - t/4) / n. The tie share is taken as
ties / (n + z^2), the same z^2 pseudo-comparisons by which Wilson's own centre is shrunk, so a
handful of ties is not mistaken for certainty. Without ties it is Wilson (1927) exactly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True)
class WinRate:
    """Outcomes of independent comparisons, seen from the candidate's side."""

    wins: int
    ties: int
    losses: int

    def __post_init__(self) -> None:
        if min(self.wins, self.ties, self.losses) < 0:
            raise ValueError("wins, ties and losses are counts: none can be negative")

    @property
    def n(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        """(wins + ties / 2) / n; a half when nothing was compared."""
        return (self.wins + self.ties / 2) / self.n if self.n else 0.5

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided score interval of the rate; (0, 1) when nothing was compared."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
        if not self.n:
            return 0.0, 1.0
        squared = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
        ties = self.ties / (self.n + squared)
        spread = squared / self.n
        centre = self.rate + spread / 2
        variance = self.rate * (1 - self.rate) - ties / 4
        half = math.sqrt(spread * variance + spread**2 / 4 * (1 - ties))
        return (
            max(0.0, (centre - half) / (1 + spread)),
            min(1.0, (centre + half) / (1 + spread)),
        )


def count(probabilities: Iterable[float]) -> WinRate:
    """Outcomes from P(candidate is better) of each comparison: above a half wins, a half ties."""
    wins = ties = losses = 0
    for p in probabilities:
        if not 0 <= p <= 1:
            raise ValueError(f"a probability is between 0 and 1, not {p}")
        wins += p > 0.5
        ties += p == 0.5
        losses += p < 0.5
    return WinRate(wins, ties, losses)


def soft_rate(probabilities: Sequence[float]) -> tuple[float, float]:
    """Mean P(candidate is better) and its standard error, as AlpacaEval's leaderboard has them."""
    if len(probabilities) < 2:
        raise ValueError("a standard error needs at least two comparisons")
    return fmean(probabilities), stdev(probabilities) / math.sqrt(len(probabilities))


def bootstrap(
    by_prompt: Sequence[Sequence[float]],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean outcome, whole prompts resampled with replacement.

    For several comparisons of one prompt, which are not independent of each other: one inner
    sequence of outcomes (1 win, 1/2 tie, 0 loss, or P(better)) a prompt, none of them empty.
    """
    if not by_prompt or not all(by_prompt):
        raise ValueError("a bootstrap needs at least one outcome of each prompt")
    draw = random.Random(seed)
    sums = [(sum(outcomes), len(outcomes)) for outcomes in by_prompt]
    means = []
    for _ in range(resamples):
        chosen = draw.choices(sums, k=len(sums))
        means.append(sum(s for s, _ in chosen) / sum(n for _, n in chosen))
    means.sort()
    cut = int(resamples * (1 - confidence) / 2)
    return means[cut], means[-1 - cut]
