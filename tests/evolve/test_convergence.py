"""The loop without its platform: a hidden taste is found by rankings of what programs pick."""

from __future__ import annotations

import random
from itertools import combinations
from statistics import fmean
from typing import Any

from align import seeded_writer
from align.icpl import arms
from align.icpl.emphases import EMPHASES
from align.icpl.traces import picked
from align.programs import RewardProgram
from tests.evolve.conftest import answer, likes

PROMPTS, ANSWERS, GENERATIONS = 18, 12, 5


def totals(program: RewardProgram, texts: list[str]) -> list[float]:
    """The seeded writer's code is our own; it is run here."""
    space: dict[str, Any] = {}
    exec(compile(program.code, "program", "exec"), space)
    meta = {"params": dict(program.params), "tokens": 1, "turns": 1}
    return [space["compute_reward"]("How long?", text, {}, meta)["total"] for text in texts]


def agreement(program: RewardProgram, pools: list[list[str]]) -> float:
    """The share of pairs that a program orders as the taste does, half for a tie."""
    shares = []
    for texts in pools:
        said = totals(program, texts)
        for i, j in combinations(range(len(texts)), 2):
            gap, mine = likes(texts[i]) - likes(texts[j]), said[i] - said[j]
            if gap:
                shares.append(0.5 if not mine else float((gap > 0) == (mine > 0)))
    return fmean(shares)


def session(seed: int) -> list[float]:
    """The agreement of each generation's good program on prompts nobody ranked."""
    rng = random.Random(seed)
    pools = [sorted({answer(rng) for _ in range(ANSWERS)}) for _ in range(PROMPTS)]
    good: RewardProgram | None = None
    bad: RewardProgram | None = None
    found = []
    for number in range(GENERATIONS):
        names = enumerate(EMPHASES)
        fresh = [
            seeded_writer.write(seed * 1000 + number * 10 + arm, name, good, bad)
            for arm, name in names
        ]
        programs = [*([good] if good else []), *fresh]
        rankings = []
        for place, texts in enumerate(pools[:6]):
            best = [picked(totals(one, texts)) for one in programs]
            order = sorted({likes(texts[k]) for k in best}, reverse=True)
            groups = tuple(
                tuple(arm for arm, k in enumerate(best) if likes(texts[k]) == level)
                for level in order
            )
            rankings.append(arms.Ranking(str(place), groups))
        strengths = arms.strengths(rankings, list(range(len(programs))))
        order_now = sorted(strengths, key=lambda arm: -strengths[arm])
        good, bad = programs[order_now[0]], programs[order_now[-1]]
        found.append(agreement(good, pools[6:]))
    return found


def test_agreement_with_a_hidden_taste_rises_over_five_generations():
    """Over sessions: one alone may stand still, as a ranking of six prompts is little to go by."""
    curves = [session(seed) for seed in range(4)]
    means = [fmean(column) for column in zip(*curves, strict=True)]
    assert means[-1] > means[0] + 0.05
    assert means[-1] > 0.85
    assert session(0) == curves[0], "and again the same"
