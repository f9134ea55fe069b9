"""Who learns a taste from rankings: ICPL with the seeded writer, and Bradley-Terry models.

Everybody gets rankings of the same size from the same noisy people. ICPL ranks what its programs
pick of its panel; the others rank six answers drawn by chance, a fresh prompt each time.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from itertools import combinations

import torch

from align import jobs, seeded_writer
from align.icpl import arms
from align.icpl.emphases import EMPHASES
from align.icpl.traces import picked
from align.programs import RewardProgram
from tests.bench.alignment import world
from tests.bench.alignment.workshop import Workshop, response
from tests.bench.evolving.pool import CRITERIA, SURFACE, Prompt, Taste, agreement, as_arms, scored
from tests.bench.quality import sides

CARDS = 6
CHOSEN, SPARE, MORE = 6, 6, 3  # prompts a generation, and what unclear ones add, as in the product
SAME, TRIES = 0.9, 3
RIDGE = 1.0

Curve = list[tuple[int, float]]  # rankings so far, agreement on held-out prompts


def icpl(
    some: Sequence[Prompt],
    heldout: Sequence[Prompt],
    taste: Taste,
    seed: int,
    most: int,
    *,
    rubric: bool,
) -> Curve:
    """Generations until `most` rankings are used; the agreement of the good program after each."""
    rng = random.Random(f"icpl:{taste.name}:{seed}")
    panel = rng.sample(list(some), CHOSEN + SPARE + 24)
    good: RewardProgram | None = None
    bad: RewardProgram | None = None
    used, number, curve = 0, 0, list[tuple[int, float]]()
    while used < most:
        number += 1
        programs = contenders(panel, good, bad, f"{seed}:{number}", rubric)
        rankings: list[arms.Ranking] = []
        names = list(range(len(programs)))
        asked = 0
        while True:
            asked = CHOSEN if not asked else min(asked + MORE, CHOSEN + SPARE)
            for place in range(len({one.prompt for one in rankings}), asked):
                rankings.append(_ranked(rng, panel[place], str(place), programs, taste))
            standing = arms.standing(rankings, names, seed=number)
            if standing.sure or asked == CHOSEN + SPARE:
                break
        used += sum(len(one.groups) > 1 for one in rankings)
        good, bad = programs[standing.order[0]], programs[standing.order[-1]]
        curve.append((used, agreement([scored(good, one) for one in heldout], taste, heldout)))
    return curve


def contenders(
    panel: Sequence[Prompt],
    good: RewardProgram | None,
    bad: RewardProgram | None,
    name: str,
    rubric: bool,
) -> list[RewardProgram]:
    """The good program and six new ones that pick otherwise."""
    found = [good] if good else []
    for arm, emphasis in enumerate(EMPHASES):
        for attempt in range(TRIES):
            seed = zlib.crc32(f"{name}:{arm}:{attempt}".encode())
            made = seeded_writer.write(seed, emphasis, good, bad, rubric=rubric)
            if all(_alike(made, other, panel) < SAME for other in found):
                found.append(made)
                break
    return found


def linear(
    some: Sequence[Prompt],
    heldout: Sequence[Prompt],
    taste: Taste,
    seed: int,
    counts: Sequence[int],
) -> Curve:
    """Bradley-Terry on all the features that tastes are made of: the stronger baseline, which knows
    what there is to weigh."""
    names = [*SURFACE, *CRITERIA]
    rows = rankings(some, taste, seed, max(counts))
    every = torch.tensor(
        [[one[name] for name in names] for prompt in some for one in prompt.features],
        dtype=torch.float64,
    )
    scale = every.std(0).clamp_min(1e-6)
    curve = []
    for count in counts:
        gaps = [
            [prompt.features[i][name] - prompt.features[j][name] for name in names]
            for prompt, order in rows[:count]
            for i, j in combinations(order, 2)
        ]
        x = torch.tensor(gaps, dtype=torch.float64) / scale  # (pairs, features): i was put over j
        weight = _fit(x)
        scores = [
            [
                float(
                    sum(w * one[name] / s for w, name, s in zip(weight, names, scale, strict=True))
                )
                for one in prompt.features
            ]
            for prompt in heldout
        ]
        curve.append((count, agreement(scores, taste, heldout)))
    return curve


def reward_model(
    workshop: Workshop,
    some: Sequence[Prompt],
    heldout: Sequence[Prompt],
    taste: Taste,
    seed: int,
    counts: Sequence[int],
) -> Curve:
    """The product's own Bradley-Terry reward model, on the demo's base, of the same rankings."""
    rows = rankings(some, taste, seed, max(counts))
    curve = []
    for count in counts:
        told = [
            {
                "id": str(number),
                "messages": world.messages(prompt.question),
                "responses": [response(prompt.replies[k]) for k in sorted(order)],
                "preferences": [
                    (a, b, float(order.index(i) < order.index(j)), 1.0)
                    for (a, i), (b, j) in combinations(enumerate(sorted(order)), 2)
                ],
                "heldout": False,
            }
            for number, (prompt, order) in enumerate(rows[:count])
        ]
        side = sides.Side("bradley_terry", "bradley_terry")
        done = workshop.do(sides.job(side), {jobs.COMPARISONS: told})
        items = [
            {
                "id": f"{place}:{k}",
                "messages": world.messages(prompt.question),
                "response": response(reply),
            }
            for place, prompt in enumerate(heldout)
            for k, reply in enumerate(prompt.replies)
        ]
        job = jobs.ScoreJob(reward_model=str(done["weights"]), batch_size=64)
        found = workshop.do(job, {jobs.ITEMS: items})
        rewards = {
            row["id"]: row["reward"] for row in jobs.read_rows(found["folder"] / jobs.SCORES)
        }
        scores = [
            [rewards[f"{place}:{k}"] for k in range(len(prompt.replies))]
            for place, prompt in enumerate(heldout)
        ]
        curve.append((count, agreement(scores, taste, heldout)))
    return curve


def rankings(
    some: Sequence[Prompt], taste: Taste, seed: int, count: int
) -> list[tuple[Prompt, list[int]]]:
    """People's orders of six answers by chance, a prompt each while there are prompts."""
    rng = random.Random(f"baseline:{taste.name}:{seed}")
    order = rng.sample(list(some), len(some))
    found = []
    for number in range(count):
        prompt = order[number % len(order)]
        shown = rng.sample(range(len(prompt.replies)), min(CARDS, len(prompt.replies)))
        found.append((prompt, [k for (k,) in taste.rank(rng, prompt, shown)]))
    return found


def _ranked(
    rng: random.Random,
    prompt: Prompt,
    name: str,
    programs: Sequence[RewardProgram],
    taste: Taste,
) -> arms.Ranking:
    by_answer: dict[int, list[int]] = {}
    for arm, program in enumerate(programs):
        by_answer.setdefault(picked(scored(program, prompt)), []).append(arm)
    return as_arms(taste.rank(rng, prompt, sorted(by_answer)), by_answer, name)


def _alike(one: RewardProgram, other: RewardProgram, panel: Sequence[Prompt]) -> float:
    same = sum(picked(scored(one, p)) == picked(scored(other, p)) for p in panel)
    return same / len(panel)


def _fit(x: torch.Tensor) -> torch.Tensor:
    """The weights of a logistic model that every row is a win, under a ridge, by Newton."""
    weight = torch.zeros(x.shape[1], dtype=x.dtype)
    for _ in range(30):
        p = torch.sigmoid(x @ weight)
        slope = x.T @ (1 - p) - RIDGE * weight
        curve = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
        step = torch.linalg.solve(curve, slope)
        weight = weight + step
        if float(step.abs().max()) < 1e-9:
            break
    return weight
