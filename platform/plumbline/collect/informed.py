"""What an informed strategy would rather ask: its favourite pair of each prompt, best prompt first.

`by_score` looks at each pair by itself, `by_design` at what it adds to those before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from align import design, ensemble
from align.design import Candidate, Information
from plumbline.collect.models import Completion
from plumbline.collect.shares import Favourite, Pair, pairs, says, scored
from plumbline.collect.strategy import Batch, Known

Score = Callable[[Known, Sequence[Completion], Pair], float]

RIDGE = 1.0  # of the information before any vote, where differences of features have spread 1
CLUSTERS = 8  # of prompts; none has more than twice its share of a batch


def information(known: Known, answers: Sequence[Completion], pair: Pair) -> float:
    """What a vote would tell of which member is right (BALD), in nats."""
    first, second = _members(known, answers, pair)
    return ensemble.information(first, second, known.temperature)


def doubt(known: Known, answers: Sequence[Completion], pair: Pair) -> float:
    """The entropy of the vote that the members foretell together, in nats."""
    first, second = _members(known, answers, pair)
    return ensemble.entropy(ensemble.chance(first, second, known.temperature))


def spread(known: Known, answers: Sequence[Completion], pair: Pair) -> float:
    """The variance of the margin over members, in squared log-odds."""
    first, second = _members(known, answers, pair)
    return ensemble.variance(first, second) / known.temperature**2


def worth(known: Known, pair: Sequence[Completion], score: Score) -> float | None:
    """The score of a pair that members of a model have scored, else None."""
    return score(known, pair, (0, 1)) if scored(known, pair) else None


def by_score(batch: Batch, score: Score) -> dict[int, Favourite]:
    """Each prompt's pair of the highest score, highest first; none where no score is above 0."""
    found: dict[int, tuple[float, Pair]] = {}
    for prompt, answers in batch.prompts.items():
        known = batch.of(prompt)
        told = [(score(known, answers, pair), pair) for pair in scored(known, answers)]
        best = max(told, key=lambda one: one[0], default=None)
        if best and best[0] > 0:
            found[prompt] = best
    order = sorted(found, key=lambda prompt: -found[prompt][0])
    return {
        prompt: Favourite(found[prompt][1], {"rank": at + 1, "score": found[prompt][0]})
        for at, prompt in enumerate(order)
    }


def by_design(batch: Batch) -> dict[int, Favourite]:
    """Greedy D-optimal design over all pairs whose answers have features, after what was asked
    before."""
    candidates: list[Candidate] = []
    where: list[Pair] = []
    cluster = _clusters(batch)
    for prompt, answers in batch.prompts.items():
        known = batch.of(prompt)
        foretold = set(scored(known, answers, least=1))
        for pair in pairs(answers):
            first, second = (known.features.get(answers[at].pk) for at in pair)
            if first is None or second is None:
                continue
            z = [a - b for a, b in zip(first, second, strict=True)]
            p = says(known, answers, pair)["chance"] if pair in foretold else 0.5
            candidates.append(Candidate(prompt, z, p * (1 - p), cluster.get(prompt, 0)))
            where.append(pair)
    if not candidates:
        return {}
    scaled, information = _prepared(candidates, batch)
    quota = design.quotas(cluster.values(), batch.wanted)
    taken = design.greedy(scaled, batch.wanted, information, quota)
    return {
        scaled[one.index].prompt: Favourite(where[one.index], {"rank": at + 1, "gain": one.gain})
        for at, one in enumerate(taken)
    }


def _prepared(candidates: list[Candidate], batch: Batch) -> tuple[list[Candidate], Information]:
    """Candidates whose differences have a mean square of 1, and what earlier votes told."""
    size = math.sqrt(sum(sum(x * x for x in one.z) for one in candidates) / len(candidates)) or 1.0
    scaled = [
        Candidate(one.prompt, [x / size for x in one.z], one.variance, one.cluster)
        for one in candidates
    ]
    information = Information(len(candidates[0].z), RIDGE)
    for pair in batch.before:
        information.add([x / size for x in pair.z], pair.variance)
    return scaled, information


def _members(
    known: Known, answers: Sequence[Completion], pair: Pair
) -> tuple[Sequence[float], Sequence[float]]:
    first, second = (known.members[answers[at].pk] for at in pair)
    return first, second


def _clusters(batch: Batch) -> dict[int, int]:
    """Prompts whose answers lie together."""
    points = {}
    for prompt in batch.prompts:
        rows = list(batch.of(prompt).features.values())
        if rows:
            points[prompt] = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return design.clusters(points, CLUSTERS)
