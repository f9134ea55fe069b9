"""How much of each policy goes into a blend, in weight space: coefficients that sum to 1.

Policies of one base differ from it by deltas, and a blend is the base plus the sum of coefficient
times delta. Coefficients may be negative or above 1, which goes beyond the policies instead of
between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

LOWEST, HIGHEST = -0.5, 1.5  # of a bone soup's coefficients, which are clipped and scaled anew
LEAST = 0.5 - 1e-9  # that clipping must leave of their sum


def soup(preference: Sequence[float]) -> list[float]:
    """Rewarded soup (arXiv:2306.04488): the preference itself. Raises ValueError unless the shares
    are 0 or more and sum to more than 0."""
    if not preference or not all(math.isfinite(one) and one >= 0 for one in preference):
        raise ValueError("Every share must be a number, and 0 or more.")
    total = math.fsum(preference)
    if total <= 0:
        raise ValueError("At least one share must be above 0.")
    return [one / total for one in preference]


def bone_soup(preference: Sequence[float], own: float) -> list[float]:
    """Bone Soup (arXiv:2502.10762): policy i was trained for `own` of objective i and an even part
    of the rest for each other, column i of a circulant matrix B; the coefficients solve
    B x = preference.

    All columns of B sum to 1, so x does, too, and x_i = (preference_i - c) / (own - c) with
    c = (1 - own) / (m - 1). With `own` = 1 this is the rewarded soup. Raises ValueError where B has
    no inverse (`own` = 1/m) or the shares are none.
    """
    wanted = soup(preference)
    count = len(wanted)
    if count < 2:
        raise ValueError("A bone soup needs two policies at least.")
    if not 1 / count < own <= 1:
        raise ValueError(
            f"Each of {count} policies must have been trained for more than 1/{count} of its own "
            f"objective, and at most all: {own:g} says nothing about what they are good at."
        )
    other = (1 - own) / (count - 1)
    exact = [(one - other) / (own - other) for one in wanted]
    clipped = [min(HIGHEST, max(LOWEST, one)) for one in exact]
    total = math.fsum(clipped)
    if total < LEAST:
        raise ValueError(
            f"Policies trained for {own:g} of their own objective are too alike for so one-sided a "
            "blend: the others would have to be taken away almost whole. Ask for a more even one."
        )
    return [one / total for one in clipped]


def vector(alpha: float) -> list[float]:
    """Task arithmetic (arXiv:2212.04089): of a policy, of one that has learnt something, and of the
    one it had learnt it from; the first plus `alpha` times what the second has over the third."""
    if not math.isfinite(alpha):
        raise ValueError("How much is added must be a number.")
    return [1.0, alpha, -alpha]


def simplex(count: int, steps: int) -> Iterator[tuple[float, ...]]:
    """All shares of `count` policies in `steps` even steps, corners first to last: steps + 1 points
    for two policies."""
    if count == 1:
        yield (1.0,)
        return
    for taken in range(steps, -1, -1):
        rest = steps - taken
        if not rest:
            yield (1.0, *(0.0,) * (count - 1))
            continue
        for others in simplex(count - 1, rest):
            yield (taken / steps, *(one * rest / steps for one in others))
