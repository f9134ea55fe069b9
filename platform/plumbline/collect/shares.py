"""Prompts are dealt to several ways of picking, so that the chance of every pick is known exactly.

One way, the informed one, takes prompts in the order of its own liking; the others get prompts by
chance. How many each gets is its share, rounded by chance. The informed order does not depend on
what the others get, so the chance that it reaches a prompt is a hypergeometric tail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations, pairwise
from math import comb, floor
from typing import Any

from align import ensemble
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Batch, Known, Picked

Pair = tuple[int, int]  # indices of two of a prompt's answers, the smaller first
Odds = Mapping[Pair, float]  # the chance of each pair; they sum to 1
Draw = Callable[[int], Odds]  # by prompt


@dataclass(frozen=True)
class Favourite:
    """What the informed way asks about a prompt, and the figures it did so by."""

    pair: Pair
    why: Mapping[str, Any]


def pairs(answers: Sequence[Completion]) -> list[Pair]:
    return list(combinations(range(len(answers)), 2))


def uniform(answers: Sequence[Completion]) -> Odds:
    """Every pair as likely as any other."""
    return dict.fromkeys(pairs(answers), 1 / comb(len(answers), 2))


def at_random(batch: Batch) -> Draw:
    return lambda prompt: uniform(batch.prompts[prompt])


def scored(known: Known, answers: Sequence[Completion], least: int = 2) -> list[Pair]:
    """Pairs of answers that so many members of a reward model have scored."""
    told = [len(known.members.get(answer.pk, ())) >= least for answer in answers]
    return [(i, j) for i, j in pairs(answers) if told[i] and told[j]]


def says(known: Known, answers: Sequence[Completion], pair: Pair) -> dict[str, float]:
    """What the members say of a pair of scored answers: the figures that strategies go by."""
    first, second = (known.members[answers[at].pk] for at in pair)
    return {
        "chance": ensemble.chance(first, second, known.temperature),
        "information": ensemble.information(first, second, known.temperature),
    }


def deal(
    batch: Batch,
    favourites: Mapping[int, Favourite],
    chances: Mapping[str, tuple[float, Draw]],
) -> dict[int, list[Picked]]:
    """One pair of each of `wanted` prompts. favourites: of the informed way, in its order; prompts
    without one come last and get any pair. chances: the share and the odds of each other way."""
    rng = random.Random(f"{batch.seed}:shares")
    everybody = list(batch.prompts)
    count, wanted = len(everybody), min(batch.wanted, len(batch.prompts))
    order = [*favourites, *(prompt for prompt in everybody if prompt not in favourites)]
    rank = {prompt: at for at, prompt in enumerate(order)}
    shares = [share for share, _ in chances.values()]
    sizes = _rounded([share * wanted for share in shares], rng.random())
    drawn = iter(rng.sample(everybody, sum(sizes)))
    part = {p: name for name, n in zip(chances, sizes, strict=True) for p in _take(drawn, n)}
    left = [prompt for prompt in order if prompt not in part][: wanted - len(part)]
    part |= dict.fromkeys(left, "")
    reached = _reach(count, wanted, sum(shares) * wanted)
    found: dict[int, list[Picked]] = {}
    for prompt in (prompt for prompt in everybody if prompt in part):
        answers, favourite = batch.prompts[prompt], favourites.get(prompt)
        informed = {favourite.pair: 1.0} if favourite else uniform(answers)
        draw = chances[part[prompt]][1](prompt) if part[prompt] else informed
        pair = rng.choices(list(draw), list(draw.values()))[0]
        p = reached(rank[prompt]) * informed.get(pair, 0.0) + sum(
            share * wanted / count * odds(prompt).get(pair, 0.0) for share, odds in chances.values()
        )
        known = batch.of(prompt)
        why: dict[str, Any] = {"part": part[prompt] or ("informed" if favourite else "random")}
        if pair in scored(known, answers, least=1):
            why |= says(known, answers, pair)
        if favourite and pair == favourite.pair:
            why |= favourite.why
        found[prompt] = [Picked((answers[pair[0]], answers[pair[1]]), min(1.0, p), why)]
    return found


def _rounded(means: Sequence[float], draw: float) -> list[int]:
    """Whole numbers with these means, and a sum within 1 of theirs; `draw` is uniform in [0, 1)."""
    ends = [floor(total + draw) for total in accumulate(means, initial=0.0)]
    return [end - start for start, end in pairwise(ends)]


def _take(drawn: Iterator[int], count: int) -> list[int]:
    return [prompt for _, prompt in zip(range(count), drawn, strict=False)]


def _reach(count: int, wanted: int, mean: float) -> Callable[[int], float]:
    """The chance that the informed way shows the prompt of a rank: of `count` prompts others draw
    `mean`, rounded by chance, but not it, and enough of those before it."""
    up = mean - floor(mean)
    outcomes = [(1 - up, floor(mean)), (up, floor(mean) + 1)]

    @cache
    def reached(rank: int) -> float:
        return sum(
            odds * (1 - others / count) * _tail(count - 1, others, rank, rank - wanted + others)
            for odds, others in outcomes
            if odds > 0 and others < count
        )

    return reached


def _tail(population: int, marked: int, draws: int, above: int) -> float:
    """P(more than `above` of `draws` are marked), drawn without replacement."""
    if above < 0:
        return 1.0
    ways = sum(
        comb(marked, hits) * comb(population - marked, draws - hits)
        for hits in range(above + 1, min(marked, draws) + 1)
    )
    return ways / comb(population, draws)
