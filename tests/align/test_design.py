"""Greedy D-optimal design: what it promises, and that it learns a utility from fewer votes."""

from __future__ import annotations

import math
import random

import pytest
import torch

from align import design
from align.design import Candidate, Information
from align.gpu.probe import newton


def vectors(count: int, dims: int, seed: int) -> list[list[float]]:
    rng = random.Random(seed)
    return [[rng.gauss(0, 1) for _ in range(dims)] for _ in range(count)]


def determinant(rows: list[list[float]]) -> float:
    """By elimination, without Sherman and Morrison."""
    rows, found = [list(row) for row in rows], 1.0
    for at in range(len(rows)):
        found *= rows[at][at]
        for below in range(at + 1, len(rows)):
            by = rows[below][at] / rows[at][at]
            rows[below] = [a - by * b for a, b in zip(rows[below], rows[at], strict=True)]
    return found


def test_the_log_determinant_is_that_of_the_whole_matrix_and_never_falls():
    information = Information(4, ridge=0.5)
    whole = [[0.5 * (i == j) for j in range(4)] for i in range(4)]
    for z in vectors(30, 4, 0):
        before, foretold = information.logdet, information.gain(z, 0.2)
        assert information.add(z, 0.2) == pytest.approx(foretold)
        assert information.logdet >= before
        for i in range(4):
            for j in range(4):
                whole[i][j] += 0.2 * z[i] * z[j]
        assert information.logdet == pytest.approx(math.log(determinant(whole)))


def test_a_copy_of_what_was_chosen_gains_strictly_less():
    information = Information(6)
    for z in vectors(10, 6, 1):
        first = information.add(z, 0.25)
        assert 0 < information.gain(z, 0.25) < first


def test_each_pick_is_the_best_of_all_that_are_left_one_a_prompt():
    found = [
        Candidate(prompt=k // 3, z=z, variance=0.1 + 0.01 * (k % 10))
        for k, z in enumerate(vectors(60, 5, 2))
    ]
    taken = design.greedy(found, 12, Information(5))
    assert len(taken) == len({found[one.index].prompt for one in taken}) == 12
    information, asked = Information(5), set()
    for one in taken:

        def score(k: int, now: Information = information) -> float:
            return now.gain(found[k].z, found[k].variance)

        left = [k for k in range(60) if found[k].prompt not in asked]
        assert score(one.index) == pytest.approx(max(map(score, left)))
        asked.add(found[one.index].prompt)
        assert one.gain == pytest.approx(
            information.add(found[one.index].z, found[one.index].variance)
        )


def test_what_tells_nothing_is_never_taken():
    nothing = [Candidate(0, [0.0, 0.0]), Candidate(1, [1.0, 0.0], variance=0.0)]
    assert design.greedy([*nothing, Candidate(2, [0.0, 1.0])], 3, Information(2))[0].index == 2
    assert design.greedy(nothing, 3, Information(2)) == []


def test_no_cluster_has_more_than_twice_its_share():
    points = {k: [10.0 * (k < 6), 0.1 * k] for k in range(30)}
    cluster = design.clusters(points, 2)
    assert len({cluster[k] for k in range(6)}) == len({cluster[k] for k in range(6, 30)}) == 1
    quota = design.quotas(cluster.values(), 10)
    # The six far ones are by far the most telling, and are a fifth of all prompts.
    found = [
        Candidate(k, z, cluster=cluster[k])
        for k, z in enumerate([[9.0 * (k < 6), float(k >= 6)] for k in range(30)])
    ]
    taken = design.greedy(found, 10, Information(2), quota)
    assert len(taken) == 10
    assert sum(one.index < 6 for one in taken) == 4


def test_a_linear_utility_is_recovered_from_half_of_the_votes_that_chance_needs():
    """Nine pairs in ten differ in two features alone; the other ten are as much liked."""
    dims, votes, won = 12, 40, 0
    for seed in range(5):
        rng = random.Random(seed)
        (truth,) = vectors(1, dims, 100 + seed)
        pool = [
            [x if k % 10 == 0 or d < 2 else 0.0 for d, x in enumerate(z)]
            for k, z in enumerate(vectors(600, dims, 200 + seed))
        ]
        liked = [sum(a * b for a, b in zip(z, truth, strict=True)) for z in pool]
        said = [float(rng.random() < 1 / (1 + math.exp(-2 * gap))) for gap in liked]

        def recovered(chosen: list[int], pool=pool, said=said, truth=truth) -> float:
            """The cosine of the utility and what these votes say it is."""
            z = torch.tensor([pool[k] for k in chosen], dtype=torch.float64)
            p = torch.tensor([said[k] for k in chosen], dtype=torch.float64)
            found = newton(z, p, torch.ones_like(p), torch.full((dims,), 0.3, dtype=torch.float64))
            return float(torch.cosine_similarity(found, torch.tensor(truth).double(), dim=0))

        taken = design.greedy(
            [Candidate(k, z) for k, z in enumerate(pool)], votes, Information(dims)
        )
        won += recovered([one.index for one in taken]) > recovered(
            rng.sample(range(600), 2 * votes)
        )
    assert won >= 4
