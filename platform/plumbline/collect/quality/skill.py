"""How far a person can be trusted, from answers that are known: a Beta posterior of an accuracy.

With whole-number parameters the Beta distribution is a binomial tail, so plain arithmetic is
exact. Also what counts as answering a known comparison rightly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import fmean
from typing import Any

from plumbline.collect.models import Ballot
from plumbline.collect.quality.settings import Quality

RATING_SLACK = 1  # a known rating is met by its neighbours as well
BISECTIONS = 40


@dataclass(frozen=True)
class Skill:
    """Accuracy on gold: Beta(prior_right + right, prior_wrong + wrong)."""

    right: int
    wrong: int
    prior_right: int = 4
    prior_wrong: int = 1

    @property
    def n(self) -> int:
        return self.right + self.wrong

    @property
    def mean(self) -> float:
        right = self.prior_right + self.right
        return right / (right + self.prior_wrong + self.wrong)

    def below(self, accuracy: float) -> float:
        """P(the accuracy is below this)."""
        return beta_cdf(accuracy, self.prior_right + self.right, self.prior_wrong + self.wrong)

    def interval(self) -> tuple[float, float]:
        """The central 95 % of the posterior."""
        return self._quantile(0.025), self._quantile(0.975)

    def _quantile(self, share: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.below(middle) < share else (low, middle)
        return (low + high) / 2


def of(quality: Quality, right: int, wrong: int) -> Skill:
    return Skill(right, wrong, quality.prior_right, quality.prior_wrong)


def must_pause(skill: Skill, quality: Quality) -> bool:
    """Whether the accuracy is surely too low. Never before a gold comparison was answered."""
    return skill.n > 0 and skill.below(quality.pause_accuracy) > quality.pause_certainty


def proven(skill: Skill, quality: Quality) -> bool:
    """Whether the accuracy is surely high enough to doubt the gold rather than the person."""
    return skill.n > 0 and skill.below(quality.pause_accuracy) < 1 - quality.pause_certainty


@lru_cache(maxsize=4096)
def beta_cdf(x: float, a: int, b: int) -> float:
    """P(Beta(a, b) <= x) for whole a and b: the chance of a or more successes in a + b - 1."""
    if not 0 < x < 1:
        return float(x >= 1)
    n = a + b - 1
    logs = (math.log(x), math.log1p(-x), math.lgamma(n + 1))
    terms = (
        math.exp(
            logs[2] - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * logs[0] + (n - k) * logs[1]
        )
        for k in range(a, n + 1)
    )
    return min(1.0, math.fsum(terms))


def passes(expected: Mapping[str, Any], ballot: Ballot) -> bool | None:
    """Whether a vote on a gold or training comparison is as expected; None for what is no vote.

    Every strict preference that is expected must be in the ranking, and every tie; more order than
    is expected elsewhere does no harm. That all are bad fits an expected tie, since it prefers
    none. Ratings may be one off; where an order of ratings is expected (`rated`), the better
    answer's mean must be higher, and equal answers' means at most one apart. A vote that was not
    asked for what is expected, as the campaign's questions changed, is neither right nor wrong.
    """
    return answers(expected, ballot.outcome, ballot.ranking, ballot.ratings)


def answers(
    expected: Mapping[str, Any],
    outcome: str,
    ranking: Sequence[Sequence[int]],
    ratings: Mapping[str, Mapping[str, int]],
) -> bool | None:
    """`passes` of a vote's fields."""
    if outcome not in (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD, Ballot.Outcome.ABSOLUTE):
        return None
    wanted, rated = expected.get("ranking") or [], expected.get("rated") or []
    if expected.get("outcome") == Ballot.Outcome.ALL_BAD or outcome == Ballot.Outcome.ALL_BAD:
        tie = len(wanted or rated) == 1
        return outcome == Ballot.Outcome.ALL_BAD and (tie or not (wanted or rated))
    if rated:
        return _rated_in_order(rated, ratings) if ratings else None
    if wanted and outcome == Ballot.Outcome.ABSOLUTE:
        return None
    return _ordered(wanted, ranking) and _rated(expected.get("ratings") or {}, ratings)


def _ordered(wanted: Sequence[Sequence[int]], ranking: Sequence[Sequence[int]]) -> bool:
    place = {slot: at for at, group in enumerate(ranking) for slot in group}
    if not {slot for group in wanted for slot in group} <= place.keys():
        return False
    tied = all(place[i] == place[j] for group in wanted for i, j in combinations(group, 2))
    better = (place[i] < place[j] for one, two in combinations(wanted, 2) for i in one for j in two)
    return tied and all(better)


def _rated_in_order(
    wanted: Sequence[Sequence[int]], ratings: Mapping[str, Mapping[str, int]]
) -> bool:
    means = [
        [fmean(ratings[str(slot)].values()) for slot in group if ratings.get(str(slot))]
        for group in wanted
    ]
    if [len(group) for group in means] != [len(group) for group in wanted]:
        return False
    alike = all(max(group) - min(group) <= RATING_SLACK for group in means)
    return alike and all(min(one) > max(two) for one, two in combinations(means, 2))


def _rated(wanted: Mapping[str, Any], ratings: Mapping[str, Mapping[str, int]]) -> bool:
    return all(
        abs(ratings.get(slot, {}).get(criterion, math.inf) - value) <= RATING_SLACK
        for slot, given in wanted.items()
        for criterion, value in given.items()
    )
