"""Which program's picks people like best: strengths of arms from rankings, and how sure that is.

A ranking speaks of every pair of the arms whose picks were shown; arms that picked the same answer,
and answers in one group, count half a win either way. Strengths are Bradley and Terry's by maximum
likelihood with a small ridge, which a winner of everything keeps finite. Votes on one prompt are
not independent, so how sure the first place is comes from drawing whole prompts anew.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from align.measure.pairs import sigmoid
from align.measure.ratings import inverse

RIDGE = 0.05
RESAMPLES = 200
SURE = 0.7  # P(the first is above the second) from which one program is the good one


@dataclass(frozen=True)
class Ranking:
    """One rater on one prompt: groups of arms, best first; arms within a group are equal."""

    prompt: str
    groups: tuple[tuple[int, ...], ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Standing:
    """`order`: arms from the best to the worst; `ahead`: P(the first is above the second) over
    prompts drawn anew, half where they are equal; None where there are not two arms to tell apart,
    or no prompt to draw."""

    order: tuple[int, ...]
    strengths: dict[int, float]
    ahead: float | None
    prompts: int

    @property
    def sure(self) -> bool:
        return self.ahead is not None and self.ahead >= SURE


Wins = list[list[float]]


def strengths(rankings: Sequence[Ranking], arms: Sequence[int]) -> dict[int, float]:
    """Log-odds of each arm, with mean 0. All are 0 where nothing was ranked."""
    place = {arm: k for k, arm in enumerate(arms)}
    return dict(zip(arms, _fitted(_wins(rankings, place)), strict=True))


def standing(rankings: Sequence[Ranking], arms: Sequence[int], seed: int = 0) -> Standing:
    """The order of the arms; among equals the one that comes first in `arms`."""
    place = {arm: k for k, arm in enumerate(arms)}
    prompts = sorted({one.prompt for one in rankings})
    by_prompt = [_wins([r for r in rankings if r.prompt == name], place) for name in prompts]
    fitted = _fitted(_summed(by_prompt, len(arms)))
    order = sorted(range(len(arms)), key=lambda k: -fitted[k])
    ahead = None
    if len(arms) > 1 and by_prompt:
        ahead = _ahead(by_prompt, order[0], order[1], len(arms), seed)
    return Standing(
        order=tuple(arms[k] for k in order),
        strengths=dict(zip(arms, fitted, strict=True)),
        ahead=ahead,
        prompts=len(prompts),
    )


def _ahead(by_prompt: Sequence[Wins], first: int, second: int, size: int, seed: int) -> float:
    draw = random.Random(f"arms:{seed}")
    won = 0.0
    for _ in range(RESAMPLES):
        some = draw.choices(by_prompt, k=len(by_prompt))
        fitted = _fitted(_summed(some, size))
        gap = fitted[first] - fitted[second]
        won += 0.5 if abs(gap) < 1e-9 else float(gap > 0)
    return won / RESAMPLES


def _wins(rankings: Sequence[Ranking], place: dict[int, int]) -> Wins:
    """wins[i][j]: how often arm i was put above arm j, a tie counting half."""
    found = [[0.0] * len(place) for _ in place]
    for one in rankings:
        rank = {place[arm]: at for at, group in enumerate(one.groups) for arm in group}
        for i, at in rank.items():
            for j, other in rank.items():
                if i != j and at <= other:
                    found[i][j] += one.weight * (0.5 if at == other else 1.0)
    return found


def _summed(some: Sequence[Wins], size: int) -> Wins:
    return [[sum(one[i][j] for one in some) for j in range(size)] for i in range(size)]


def _fitted(wins: Wins) -> list[float]:
    """The likeliest strengths under the ridge, by Newton's method; the ridge centres them."""
    size = len(wins)
    values = [0.0] * size
    for _ in range(50):
        slope = [-RIDGE * value for value in values]
        curve = [[RIDGE * (i == j) for j in range(size)] for i in range(size)]
        for i in range(size):
            for j in range(size):
                if count := wins[i][j]:
                    p = sigmoid(values[i] - values[j])
                    slope[i] += count * (1 - p)
                    slope[j] -= count * (1 - p)
                    bend = count * p * (1 - p)
                    curve[i][i] += bend
                    curve[j][j] += bend
                    curve[i][j] -= bend
                    curve[j][i] -= bend
        step = [sum(a * b for a, b in zip(row, slope, strict=True)) for row in inverse(curve)]
        longest = max((abs(one) for one in step), default=0.0)
        scale = min(1.0, 2.0 / longest) if longest else 1.0
        values = [value + scale * one for value, one in zip(values, step, strict=True)]
        if longest < 1e-9:
            break
    return values
