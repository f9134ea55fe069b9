"""A linear reward model that learns batch by batch from the votes that a strategy asks for.

The strategies are the product's own, and see what they see in a round: what bootstrapped members of
the model so far say of every answer, and the features of the design. What is compared is the
accuracy on held-out votes of the probe fitted to all votes so far.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import torch
from torch import Tensor

from align.gpu import features, probe
from align.gpu.probe import Table
from align.measure import pairs
from align.objective import Preferences
from plumbline.collect import selection
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Asked, Batch, Known
from tests.bench.selecting.pools import Pool

MEMBERS = 5


@dataclass(frozen=True)
class Plan:
    """first: votes on any pairs, the same ones for all strategies; then batches of `batch` until
    there are `most`."""

    first: int = 16
    batch: int = 16
    most: int = 208
    ridge: float = 1.0
    dims: int = 64

    @property
    def counts(self) -> list[int]:
        return list(range(self.first, self.most + 1, self.batch))


class Learner:
    """One pool as the strategies see it."""

    def __init__(self, pool: Pool, plan: Plan) -> None:
        self.pool = pool
        self.plan = plan
        rows = [row for some in pool.prompts.values() for row in some]
        scale = pool.features.shape[1] ** 0.5
        balanced = torch.cat([pool.features[:, :-1], pool.features[:, -1:] * scale], dim=1)
        sizes = [len(some) for some in pool.prompts.values()]
        found = features.projected([balanced[row] for row in rows], sizes, plan.dims)
        self.where = dict(zip(rows, found, strict=True))
        self.answers = {row: Completion(pk=uuid4(), text=pool.texts[row]) for row in rows}
        self.row = {answer.pk: row for row, answer in self.answers.items()}

    def curve(self, strategy: str, seed: int) -> list[float]:
        """Held-out accuracy at each of the plan's counts."""
        rng = random.Random(f"first:{seed}")
        left = list(self.pool.prompts)
        rng.shuffle(left)
        asked: list[tuple[int, int]] = []
        for prompt in left[: self.plan.first]:
            first, second = sorted(rng.sample(list(self.pool.prompts[prompt]), 2))
            asked.append((first, second))
        left = left[self.plan.first :]
        found = [self.accuracy(self.fitted(asked))]
        while len(asked) < self.plan.most:
            picked = self.pick(strategy, seed, left, asked)
            asked += picked.values()
            left = [prompt for prompt in left if prompt not in picked]
            found.append(self.accuracy(self.fitted(asked)))
        return found

    def pick(
        self, strategy: str, seed: int, left: Sequence[int], asked: Sequence[tuple[int, int]]
    ) -> dict[int, tuple[int, int]]:
        """The rows of the two answers that people are asked about, by prompt."""
        batch = Batch(
            prompts={p: [self.answers[row] for row in self.pool.prompts[p]] for p in left},
            wanted=self.plan.batch,
            seed=f"{seed}:{len(asked)}",
        )
        if selection.find(strategy).needs:
            members = [self.fitted(some) for some in resampled(asked, seed)]
            scores = self.pool.features @ torch.stack(members, 1)  # (R, M)
            batch = replace(
                batch,
                known={prompt: self.known(self.pool.prompts[prompt], scores) for prompt in left},
                before=[self.before(pair, scores) for pair in asked],
            )
        return {
            prompt: self.rows(picked.answers)
            for prompt, (picked,) in selection.choose_batch(strategy, batch).items()
        }

    def known(self, rows: Sequence[int], scores: Tensor) -> Known:
        return Known(
            members={self.answers[row].pk: scores[row].tolist() for row in rows},
            features={self.answers[row].pk: self.where[row] for row in rows},
        )

    def before(self, pair: tuple[int, int], scores: Tensor) -> Asked:
        first, second = (self.where[row] for row in pair)
        p = torch.sigmoid(scores[pair[0]] - scores[pair[1]]).mean().item()
        return Asked([a - b for a, b in zip(first, second, strict=True)], p * (1 - p))

    def rows(self, answers: Sequence[Completion]) -> tuple[int, int]:
        first, second = sorted(self.row[answer.pk] for answer in answers)
        return first, second

    def fitted(self, asked: Sequence[tuple[int, int]]) -> Tensor:
        """The probe's weights (D,)."""
        i, j = (torch.tensor(side) for side in zip(*asked, strict=True))
        p = torch.tensor([self.pool.votes[pair] for pair in asked], dtype=torch.float64)
        table = Table(self.pool.features, Preferences(i, j, p, torch.ones_like(p)), i)
        return probe.fit(table, self.plan.ridge)

    def accuracy(self, weight: Tensor) -> float:
        scores = (self.pool.features @ weight).tolist()
        seen = [
            pairs.Pair(scores[i] - scores[j], p, weight=2 * abs(p - 0.5), group=group)
            for i, j, p, group in self.pool.heldout
        ]
        found = pairs.accuracy(seen)
        assert found is not None
        return found


def resampled(asked: Sequence[tuple[int, int]], seed: int) -> list[list[tuple[int, int]]]:
    """The votes drawn anew for each member."""
    rng = random.Random(f"members:{seed}:{len(asked)}")
    return [rng.choices(list(asked), k=len(asked)) for _ in range(MEMBERS)]
