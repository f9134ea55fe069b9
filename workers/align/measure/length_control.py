"""How often answers would be preferred were they as long as those they met.

A logistic regression after AlpacaEval 2 (arXiv:2404.04475), fitted to the shares q by one player:

    logit q_i = a + b tanh(d_i / sd(d)) + g difficulty_i;  rate = mean_i sigmoid(a + g difficulty_i)

d is by how many characters the player's answer is longer. It departs from the published one in
two things, both for want of its data: difficulties are those of `difficulties`, not a table made
once, and b is drawn towards what length is worth to all players (`pull`), not towards two copies of
the baseline that were told to be brief and verbose. So it is called by its own name.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from align.measure.pairs import sigmoid
from align.measure.ratings import Z, inverse

STEADY = 1e-3  # of the squares of a and g: keeps them finite where one side wins everything
PULL = 10.0  # of (b - what length is worth to all) squared: a normal prior of spread 0.3
PROMPT = 1.0  # of a prompt's difficulty squared: a normal prior of spread 1
EDGE = 1e-9
TURNS, NEAR = 20, 1e-3  # of finding difficulties: at most, and when it is enough


@dataclass(frozen=True)
class Controlled:
    """The rate as it is and at equal lengths, with its 95 % interval; `slope` is b."""

    raw: float
    rate: float
    low: float
    high: float
    slope: float


def controlled(
    shares: Sequence[float],
    longer: Sequence[float],
    difficulty: Sequence[float] | None = None,
    slope: float = 0.0,
    pull: float = PULL,
    alike: Sequence[tuple[float, float]] = (),
) -> Controlled:
    """The rate of a player with these shares of votes against one opponent, one a prompt.

    slope: what b is drawn towards. alike: (share, longer) of other pairs, whose two answers come
    from one policy, so that nobody has a level there: what length is worth in them is b as well,
    and a player who is longer everywhere cannot pass b off as a. Raises ValueError of fewer than
    two meetings or of lists of other lengths. The interval is the sandwich's, of a prompt at a
    time.
    """
    if len(shares) < 2 or len(longer) != len(shares):
        raise ValueError("a length-controlled rate needs two meetings or more, each with a length")
    own = _rows(longer, difficulty, [one for _, one in alike])
    size = len(own[0])
    centre = [0.0, slope, 0.0][:size]
    weights = [STEADY, pull, STEADY][:size]
    others = _alike_rows(longer, [one for _, one in alike], size)
    rows, said = own + others, [*shares, *(share for share, _ in alike)]
    values = _solved(rows, said, centre, weights)
    level = [[row[0], 0.0, *row[2:]] for row in own]
    chances = [sigmoid(_dot(row, values)) for row in level]
    rate = fmean(chances)
    drawn = [(chance - rate) / len(own) for chance in chances] + [0.0] * len(others)
    # The mean's error has a part of the prompts that were drawn and one of the coefficients.
    gradient = [
        fmean(p * (1 - p) * row[k] for p, row in zip(chances, level, strict=True))
        for k in range(size)
    ]
    bread = inverse(_information(rows, values, weights))
    influence = [_dot(gradient, column) for column in zip(*bread, strict=True)]
    variance = 0.0
    for row, share, part in zip(rows, said, drawn, strict=True):
        off = (share - sigmoid(_dot(row, values))) * _dot(influence, row)
        variance += (off + part) ** 2
    half = Z * math.sqrt(variance * len(rows) / (len(rows) - 1))
    return Controlled(
        raw=fmean(shares),
        rate=rate,
        low=max(0.0, rate - half),
        high=min(1.0, rate + half),
        slope=values[1],
    )


def difficulties(
    players: Mapping[Hashable, Mapping[Hashable, tuple[float, float]]],
) -> dict[Hashable, float]:
    """How much easier each prompt is for all players together, in log-odds: by player and prompt
    its (share, longer). A ridge keeps prompts with few players near 0. Found by turns, each
    player's level and slope and each prompt's difficulty, until they stay."""
    prompts = sorted({prompt for rows in players.values() for prompt in rows}, key=str)
    found = dict.fromkeys(prompts, 0.0)
    lengths = {name: _scaled([one[1] for one in rows.values()]) for name, rows in players.items()}
    levels: dict[Hashable, list[float]] = {name: [0.0, 0.0] for name in players}
    for _ in range(TURNS):
        offsets: dict[Hashable, list[tuple[float, float]]] = {prompt: [] for prompt in prompts}
        for name, rows in players.items():
            keys = list(rows)
            given = [[1.0, x] for x in lengths[name]]
            known = [found[key] for key in keys]
            shares = [rows[key][0] for key in keys]
            levels[name] = _solved(
                given, shares, [0.0, 0.0], [STEADY, STEADY], known, levels[name], NEAR
            )
            for key, row, share in zip(keys, given, shares, strict=True):
                offsets[key].append((share, _dot(row, levels[name])))
        before, found = found, {prompt: _one(rows) for prompt, rows in offsets.items()}
        if all(abs(found[prompt] - before[prompt]) < NEAR for prompt in prompts):
            break
    return found


def common_slope(
    players: Sequence[tuple[Sequence[float], Sequence[float], Sequence[float] | None]],
) -> float:
    """The mean b of several players, each fitted alone: what length is worth to this judge. 0 of
    none."""
    slopes = [
        controlled(shares, longer, difficulty, pull=STEADY).slope
        for shares, longer, difficulty in players
        if len(shares) > 1
    ]
    return fmean(slopes) if slopes else 0.0


def _rows(
    longer: Sequence[float], difficulty: Sequence[float] | None, alike: Sequence[float]
) -> list[list[float]]:
    rows = [[1.0, x] for x in _scaled(longer, alike)]
    if difficulty is not None:
        for row, one in zip(rows, difficulty, strict=True):
            row.append(one)
    return rows


def _alike_rows(longer: Sequence[float], alike: Sequence[float], size: int) -> list[list[float]]:
    rest = [0.0] * (size - 2)
    return [[0.0, x, *rest] for x in _scaled([*longer, *alike], alike)[len(longer) :]]


def _scaled(longer: Sequence[float], alike: Sequence[float] = ()) -> list[float]:
    """By the spread of what is scaled; by the size of the differences among `alike` where there are
    such: they have no side that is the player's, so that their mean is as good as any."""
    if alike:
        spread = math.sqrt(fmean(one * one for one in alike))
    else:
        spread = pstdev(longer) if len(longer) > 1 else 0.0
    return [math.tanh(one / spread) if spread else 0.0 for one in longer]


def _solved(
    rows: Sequence[Sequence[float]],
    shares: Sequence[float],
    centre: Sequence[float],
    weights: Sequence[float],
    known: Sequence[float] | None = None,
    start: Sequence[float] | None = None,
    near: float = 1e-10,
) -> list[float]:
    """The likeliest coefficients under a normal prior about `centre`, by Newton's method."""
    values = list(start if start is not None else centre)
    offsets = known if known is not None else [0.0] * len(rows)
    for _ in range(100):
        chances = [
            sigmoid(_dot(row, values) + more) for row, more in zip(rows, offsets, strict=True)
        ]
        slope = [
            sum((q - p) * row[k] for q, p, row in zip(shares, chances, rows, strict=True))
            - weights[k] * (values[k] - centre[k])
            for k in range(len(values))
        ]
        step = _times(inverse(_curvature(rows, chances, weights)), slope)
        longest = max(abs(one) for one in step)
        scale = min(1.0, 2.0 / longest) if longest else 1.0
        values = [value + scale * one for value, one in zip(values, step, strict=True)]
        if longest < near:
            break
    return values


def _information(
    rows: Sequence[Sequence[float]], values: Sequence[float], weights: Sequence[float]
) -> list[list[float]]:
    return _curvature(rows, [sigmoid(_dot(row, values)) for row in rows], weights)


def _curvature(
    rows: Sequence[Sequence[float]], chances: Sequence[float], weights: Sequence[float]
) -> list[list[float]]:
    size = len(weights)
    found = [[0.0] * size for _ in range(size)]
    for row, p in zip(rows, chances, strict=True):
        weight = max(p * (1 - p), EDGE)
        for i in range(size):
            for k in range(size):
                found[i][k] += weight * row[i] * row[k]
    for k, weight in enumerate(weights):
        found[k][k] += weight
    return found


def _one(rows: Sequence[tuple[float, float]]) -> float:
    """A prompt's difficulty given everybody's level on it."""
    value = 0.0
    for _ in range(50):
        chances = [sigmoid(level + value) for _, level in rows]
        slope = sum(q - p for (q, _), p in zip(rows, chances, strict=True)) - PROMPT * value
        step = slope / (sum(p * (1 - p) for p in chances) + PROMPT)
        value += max(-2.0, min(2.0, step))
        if abs(step) < 1e-9:
            break
    return value


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [_dot(row, vector) for row in matrix]
