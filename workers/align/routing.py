"""Which of several heads speaks for whom: weights by rater, and heads told apart across retrains.

A mixture's heads (`align.objectives.mixture`) are known up to their order, and only a rater's own
votes say which of them is this rater's taste. No torch: `align.gpu.tastes` finds the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from align import labels
from align.labels import Weigh

RATE = 0.5  # eta of Hedge: how far one vote moves the weights
WORST = 5.0  # nats a vote costs a head at most, so that one slip decides nothing


def hedge(weights: Sequence[float], losses: Sequence[float], rate: float = RATE) -> list[float]:
    """w_k <- w_k exp(-rate * loss_k), summing to 1 (Hedge; MiCRo's second stage).

    Raises ValueError where there are not as many losses as weights, or no weight is above 0.
    """
    if len(weights) != len(losses):
        raise ValueError(f"there are {len(weights)} weights and {len(losses)} losses")
    if not any(weight > 0 for weight in weights) or min(weights) < 0:
        raise ValueError("weights of heads are 0 or more, and one of them is above 0")
    least = min(losses)
    moved = [
        weight * math.exp(-rate * (min(loss, WORST) - min(least, WORST)))
        for weight, loss in zip(weights, losses, strict=True)
    ]
    total = sum(moved)
    return [one / total for one in moved]


def routed(
    votes: Iterable[tuple[Sequence[float], float]], heads: int, rate: float = RATE
) -> list[float]:
    """A rater's weights after all of these votes, from even ones: each head's log-odds that the
    first answer is better, and P(the first is better) as the rater has it."""
    weights = [1 / heads] * heads
    for ahead, p in votes:
        losses = [p * _softplus(-one) + (1 - p) * _softplus(one) for one in ahead]
        weights = hedge(weights, losses, rate)
    return weights


def matching(costs: Sequence[Sequence[float]]) -> list[int]:
    """The column of each row so that all costs together are least: the assignment problem, by the
    Hungarian method with potentials (Jonker and Volgenant's shortest paths), O(n^3).

    Raises ValueError where costs are not square.
    """
    size = len(costs)
    if any(len(row) != size for row in costs):
        raise ValueError("an assignment needs as many columns as rows")
    rows, columns = [0.0] * (size + 1), [0.0] * (size + 1)  # potentials; place 0 is a stand-in
    taken = [0] * (size + 1)  # the row of each column, from 1
    for row in range(1, size + 1):
        _assign(costs, row, rows, columns, taken)
    found = [0] * size
    for column in range(1, size + 1):
        found[taken[column] - 1] = column - 1
    return found


def _assign(
    costs: Sequence[Sequence[float]],
    row: int,
    rows: list[float],
    columns: list[float],
    taken: list[int],
) -> None:
    """Give `row` a column by the cheapest path that moves others; changes all three lists."""
    size = len(costs)
    least = [math.inf] * (size + 1)
    seen, way = [False] * (size + 1), [0] * (size + 1)
    taken[0], at = row, 0
    while taken[at]:
        seen[at], here = True, taken[at]
        for column in range(1, size + 1):
            if not seen[column]:
                cost = costs[here - 1][column - 1] - rows[here] - columns[column]
                if cost < least[column]:
                    least[column], way[column] = cost, at
        step, at = min((least[c], c) for c in range(1, size + 1) if not seen[c])
        for column in range(size + 1):
            if seen[column]:
                rows[taken[column]] += step
                columns[column] -= step
            else:
                least[column] -= step
    while at:
        taken[at] = taken[way[at]]
        at = way[at]


def alike(
    before: Mapping[str, Sequence[float]], now: Mapping[str, Sequence[float]]
) -> list[int] | None:
    """By each head of before, the head of now that the same raters have: heads keep their number
    when a mixture is trained again. None where no rater is in both, or heads are not as many."""
    both = [name for name in before if name in now]
    if not both or len(before[both[0]]) != len(now[both[0]]):
        return None
    heads = range(len(now[both[0]]))
    costs = [
        [-sum(before[name][k] * now[name][other] for name in both) for other in heads]
        for k in heads
    ]
    return matching(costs)


def by_rater(
    row: Mapping[str, Any], weigh: Weigh, shares: Mapping[str, Sequence[float]], heads: int
) -> dict[str, Any]:
    """A comparison whose preferences are single votes, each with its rater and that one's shares
    of the heads; even ones for who is unknown. One without votes keeps the preferences it has."""
    even = [1 / heads] * heads
    votes = row.get("votes")
    if votes is None:
        return {**row, "tastes": row.get("tastes") or [even] * len(row["preferences"])}
    preferences, details, tastes, raters = [], [], [], []
    for vote in votes:
        weight, turned = weigh(vote)
        if not weight:
            continue
        for (i, j), (p, tie, strength) in sorted(labels.pairs(vote).items()):
            preferences.append((i, j, 1 - p if turned else p, weight))
            details.append((tie, -strength if turned else strength, 0.0))
            tastes.append(list(shares.get(vote["rater"], even)))
            raters.append(vote["rater"])
    told = {"details": details, "tastes": tastes, "raters": raters}
    return {**row, "preferences": preferences, **told}


def _softplus(x: float) -> float:
    """log(1 + e^x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
