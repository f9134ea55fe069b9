"""Reward models that differ in their seed alone, on votes of which a share is wrong.

As in Coste et al. (arXiv:2310.02743): every member is trained by itself on all the votes, in an
order of its own. Scores of members have no common scale, so they are read by the panel that a
round's ensemble has, made from the same answers: those voted on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import logsigmoid

from align import jobs
from align.demo import prompts
from align.ensemble import Ensemble
from align.gpu import panel
from align.gpu.panel import Panel
from align.jobs import Optimiser, RewardJob, Weights
from tests.bench.alignment.workshop import Workshop
from tests.bench.alignment.world import BASE
from tests.bench.quality import sides, sources

READINGS: Mapping[str, Ensemble] = {
    "mean": Ensemble(reading="mean"),
    "worst case": Ensemble(reading="worst"),
    "mean less half the variance": Ensemble(reading="uncertainty", penalty=0.5),
    "nominal and minimum": Ensemble(reading="nominal"),
}
ALONE = "single"
UNSEEN = 7_000  # apart: the seed of the votes by which members are doubted


@dataclass(frozen=True)
class Recipe:
    """What members are made by. `doubted` votes, as wrong as the others, train nobody."""

    labels: int
    members: int = 5
    flipped: float = 0.25
    doubted: int = 150
    mode: Literal["lora", "full"] = "full"
    learning_rate: float = 4e-3
    epochs: int = 5  # as Coste et al. have it for small models
    batch: int = 32


@dataclass(frozen=True)
class Proxies:
    """The members of one world, and how they are read: by name, over what each member says."""

    workshop: Workshop
    weights: Sequence[Path]
    panel: Panel

    def said(self, items: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """What each member says of each item on its own scale, (B, M)."""
        return opinions(self.workshop, self.weights, items)

    def alone(self, member: int, items: Sequence[Mapping[str, Any]]) -> list[float]:
        """What one member says of each item."""
        found: list[float] = opinions(self.workshop, [self.weights[member]], items)[:, 0].tolist()
        return found

    def read(self, reading: str, said: torch.Tensor) -> list[float]:
        """The reward of each item as an ensemble's reading has it."""
        how = replace(READINGS[reading], members=len(self.weights))
        reward: list[float] = replace(self.panel, how=how)(said).reward.tolist()
        return reward


def train(workshop: Workshop, seed: int, recipe: Recipe) -> Proxies:
    """The members of the world that `seed` names."""
    questions = prompts.texts("train")
    rows = noisy(sources.voted(workshop, questions, recipe.labels, seed), recipe.flipped, seed)
    weights = [
        workshop.do(job(recipe, member), {jobs.COMPARISONS: rows})["weights"]
        for member in range(recipe.members)
    ]
    unseen = noisy(
        sources.voted(workshop, questions, recipe.doubted, seed + UNSEEN), recipe.flipped, seed
    )
    seen_said = opinions(workshop, weights, items(rows))
    margins = opinions(workshop, weights, items(unseen)).view(-1, 2, len(weights))
    margins = margins[:, 0] - margins[:, 1]  # (P, M)
    p = torch.tensor([row["preferences"][0][2] for row in unseen])[:, None]
    losses = -p * logsigmoid(margins) - (1 - p) * logsigmoid(-margins)
    how = Ensemble(members=recipe.members)
    sums = panel.sums(seen_said, losses, torch.ones_like(losses))
    return Proxies(workshop, weights, panel.panel(how, sums))


def job(recipe: Recipe, seed: int) -> RewardJob:
    return RewardJob(
        base=BASE,
        weights=Weights(mode=recipe.mode),
        optimiser=Optimiser(
            learning_rate=recipe.learning_rate,
            epochs=recipe.epochs,
            batch_size=recipe.batch,
            micro_batch_size=recipe.batch,
            checkpoint_every=sides.NEVER,
            seed=seed,
        ),
    )


def noisy(votes: Sequence[sources.Voted], flipped: float, seed: int) -> list[dict[str, Any]]:
    """Comparison rows, a share of the votes turned around."""
    draw = random.Random(f"flip:{seed}")
    rows = [sides.comparison(vote) for vote in votes]
    for row in rows:
        if draw.random() < flipped:
            row["preferences"] = [(i, j, 1 - p, w) for i, j, p, w in row["preferences"]]
    return rows


def items(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Both answers of each comparison, to be scored."""
    return [
        {"id": f"{row['id']}:{place}", "messages": row["messages"], "response": answer}
        for row in rows
        for place, answer in enumerate(row["responses"])
    ]


def opinions(
    workshop: Workshop, weights: Sequence[Path], asked: Sequence[Mapping[str, Any]]
) -> torch.Tensor:
    """Each model's scores, (B, M) for M models."""
    columns = []
    for one in weights:
        job = jobs.ScoreJob(reward_model=str(one), batch_size=128)
        done = workshop.do(job, {jobs.ITEMS: asked})
        rows = jobs.read_rows(done["folder"] / jobs.SCORES)
        found = {row["id"]: row["reward"] for row in rows}
        columns.append(torch.tensor([found[item["id"]] for item in asked]))
    return torch.stack(columns, 1)
